//! Where rewards come from, and what several of them come to, for rollouts from the disk and for those of the moment alike.

use std::collections::BTreeMap;

use gradus_protocol::Page;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expression::{Expression, is_name},
    model::scored,
    verifier::{Match, compiled},
};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    port::file_of,
    rollout::trajectories::{Trajectory, groups},
};

/// Where a reward comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum From {
    /// The input `true_reward`.
    TrueReward,
    /// A judge who errs in a way that is known: the input `true_reward` says how, where its task has one.
    Proxy,
    /// The input `reward_model`.
    RewardModel,
    /// 1 if the completion has the answer that stands in `column` of the prompt's row, else 0.
    Answer,
    /// 1 if the completion matches the regular expression `pattern` somewhere, else 0.
    Format,
    /// A number that stands in `column` of the row, as a program left it there.
    Column,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    /// Where it comes from.
    from: From,
    /// Of `answer` and `column`: the column.
    #[serde(default)]
    column: Option<String>,
    /// Of `answer`: how a completion is held against it.
    #[serde(default)]
    r#match: Match,
    /// Of `format`: the regular expression.
    #[serde(default)]
    pattern: Option<String>,
}

/// What rollouts are judged by: parameters of `reward.judge` and of whoever learns on-line.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Rewards {
    /// The rewards by their names, each with its source: `{ right: { from: answer, column: answer } }`.
    rewards: BTreeMap<String, Source>,
    /// What they come to: an expression over their names, `tokens` (how many the policy wrote) and `ended` (1 or 0), say
    /// `right + 0.2 * form - 0.001 * tokens`. Of a single reward that itself.
    #[serde(default)]
    reward: Option<String>,
}

/// Who judges, opened.
pub(crate) struct Judges {
    true_reward: Option<TrueReward>,
    reward_model: Option<(Pretrained, Page)>,
}

impl Judges {
    /// Opens those that came in. What a reward model says of texts that may come again stands in the ledger, if `keeps`.
    pub(crate) fn open(
        true_reward: Option<&artifact::TrueReward>,
        reward_model: Option<&artifact::RewardModel>,
        keeps: bool,
        context: &Context,
    ) -> Result<Self, StageError> {
        let true_reward =
            true_reward.map(|it| TrueReward::load(file_of(&it.source)?)).transpose()?;
        let opened = |it: &artifact::RewardModel| {
            let judge = Pretrained::open("reward_model", &it.source, Head::Score, context.device)?;
            let page = if keeps {
                context.page("score", 2, &Some(digest(&it.source)?))
            } else {
                Page::blank()
            };
            Ok::<_, StageError>((judge, page))
        };
        Ok(Self { true_reward, reward_model: reward_model.map(opened).transpose()? })
    }
}

/// The share of prompts whose completions, where there are several, all have one reward.
pub(crate) fn alike(all: &[Trajectory], rewards: &[f64]) -> f64 {
    let groups = groups(all);
    let several: Vec<_> = groups.iter().filter(|group| group.len() > 1).collect();
    let same = |group: &&&Vec<usize>| {
        group.iter().all(|at| (rewards[*at] - rewards[group[0]]).abs() < f64::EPSILON)
    };
    several.iter().filter(same).count() as f64 / several.len().max(1) as f64
}

impl Rewards {
    /// Gives every trajectory its rewards, and what they come to by `expression`, which [`Rewards::check`] gave. Returns the
    /// latter.
    pub(crate) fn judge(
        &self,
        expression: &Expression,
        all: &mut [Trajectory],
        judges: &Judges,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        for (name, source) in &self.rewards {
            let values = source.of(all, judges, heard)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let value = values[at];
                return Err(StageError::refused(format!("row {}: `{name}` is {value}", at + 1)));
            }
            for (trajectory, value) in all.iter_mut().zip(values) {
                trajectory.rewards.insert(name.clone(), value);
            }
        }
        let mut rewards = Vec::new();
        for (at, trajectory) in all.iter_mut().enumerate() {
            let mut values = trajectory.rewards.clone();
            values.insert("tokens".to_owned(), trajectory.tokens.of_policy() as f64);
            values.insert("ended".to_owned(), f64::from(trajectory.tokens.ended));
            let wrong = |why| StageError::refused(format!("row {}: `reward`: {why}", at + 1));
            let reward = expression.of(&values).map_err(wrong)?;
            trajectory.reward = Some(reward);
            rewards.push(reward);
        }
        Ok(rewards)
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rewards.keys().map(String::as_str)
    }

    /// What the rewards come to; an error if they cannot be what they are said to be.
    pub(crate) fn check(&self) -> Result<Expression, StageError> {
        let names: Vec<&str> = self.rewards.keys().map(String::as_str).collect();
        for (name, source) in &self.rewards {
            if !is_name(name) || ["tokens", "ended"].contains(&name.as_str()) {
                return Err(StageError::refused(format!(
                    "no reward can be called `{name}`: letters, digits and `_`, and neither `tokens` nor `ended`"
                )));
            }
            source
                .check()
                .map_err(|why| StageError::refused(format!("the reward `{name}`: {why}")))?;
        }
        let text = match (&self.reward, names.as_slice()) {
            (Some(text), _) => text.as_str(),
            (None, [only]) => only,
            (None, []) => return Err(StageError::refused("`rewards` names none")),
            (None, several) => {
                return Err(StageError::refused(format!(
                    "say what the rewards come to, `reward: {}`",
                    several.join(" + ")
                )));
            }
        };
        let known: Vec<&str> = names.into_iter().chain(["tokens", "ended"]).collect();
        Expression::read(text, &known).map_err(StageError::Refused)
    }
}

impl Source {
    fn check(&self) -> Result<(), String> {
        let needs = |given: bool, key: &str, of: &str| {
            if given { Ok(()) } else { Err(format!("`from: {of}` needs a `{key}`")) }
        };
        match self.from {
            From::Answer => needs(self.column.is_some(), "column", "answer"),
            From::Column => needs(self.column.is_some(), "column", "column"),
            From::Format => {
                needs(self.pattern.is_some(), "pattern", "format")?;
                compiled(self.pattern.as_deref().unwrap_or_default()).map(drop)
            }
            From::TrueReward | From::Proxy | From::RewardModel => Ok(()),
        }
    }

    /// A value for every trajectory; `heard` ends it if a person asked for that.
    fn of(
        &self,
        all: &[Trajectory],
        judges: &Judges,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        let lacks =
            |port: &str| StageError::refused(format!("`from: {port}` needs the input `{port}`"));
        match self.from {
            From::TrueReward => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                Ok(all.iter().map(|it| reward.score(&it.prompt, &it.completion)).collect())
            }
            From::Proxy => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                let none = || StageError::refused("`from: proxy`: this task has no such judge");
                let proxy = |it: &Trajectory| reward.proxy(&it.prompt, &it.completion);
                all.iter().map(|it| proxy(it).ok_or_else(none)).collect()
            }
            From::RewardModel => {
                let (judge, page) =
                    judges.reward_model.as_ref().ok_or_else(|| lacks("reward_model"))?;
                let texts = all.iter().map(|it| ([&*it.prompt, &*it.completion], it.tokens.ended));
                scored(texts, judge, page, heard)
            }
            From::Answer | From::Column => {
                let value = |(row, it): (usize, &Trajectory)| {
                    let wrong = |why| StageError::refused(format!("row {}: {why}", row + 1));
                    self.by_column(it).map_err(wrong)
                };
                all.iter().enumerate().map(value).collect()
            }
            From::Format => {
                let pattern = compiled(self.pattern.as_deref().unwrap_or_default());
                let pattern = pattern.map_err(StageError::Refused)?;
                Ok(all.iter().map(|it| f64::from(pattern.is_match(&it.completion))).collect())
            }
        }
    }

    /// By what stands in its column of a trajectory.
    fn by_column(&self, it: &Trajectory) -> Result<f64, String> {
        let column = self.column.as_deref().unwrap_or_default();
        let value: &Value =
            it.extra.get(column).ok_or_else(|| format!("there is no column `{column}`"))?;
        if self.from == From::Column {
            return value.as_f64().ok_or_else(|| format!("`{column}` is `{value}`, and no number"));
        }
        let answer = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.r#match.holds(&it.completion, &answer).map(f64::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rollout::trajectories::tests::trajectory;

    fn checked(params: Value) -> Result<(), String> {
        let params: Rewards = serde_json::from_value(params).unwrap();
        params.check().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_a_reward_is_refused_before_anything_runs() {
        let right = json!({ "from": "answer", "column": "answer" });
        let form = json!({ "from": "format", "pattern": "^ [0-9]+$" });
        assert_eq!(checked(json!({ "rewards": { "right": right } })), Ok(()));
        let both = json!({ "right": right, "form": form });
        assert_eq!(checked(json!({ "rewards": both, "reward": "right + 0.1 * form" })), Ok(()));
        let refused = |params| checked(params).unwrap_err();
        insta::assert_snapshot!(refused(json!({ "rewards": both })), @"
    say what the rewards come to, `reward: form + right`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": both, "reward": "rihgt" })), @"
    `reward: rihgt` names `rihgt`, and there are `form`, `right`, `tokens`, `ended`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "a": { "from": "answer" } } })), @"
    the reward `a`: `from: answer` needs a `column`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "tokens": right } })), @"
    no reward can be called `tokens`: letters, digits and `_`, and neither `tokens` nor `ended`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": {} })), @"
    `rewards` names none
    ");
    }

    #[test]
    fn groups_of_one_reward_are_counted_where_there_are_several() {
        let of = |rewards: [f64; 5]| {
            let prompts = [0, 0, 1, 1, 2];
            let all: Vec<_> =
                prompts.into_iter().zip(rewards).map(|(p, r)| trajectory(p, 0, r)).collect();
            alike(&all, &rewards)
        };
        assert!((of([1.0, 1.0, 0.0, 1.0, 0.5]) - 0.5).abs() < 1e-12);
        assert!(of([0.0, 1.0, 0.0, 1.0, 0.5]) < 1e-12);
    }

    #[test]
    fn answers_and_numbers_stand_in_columns_of_the_prompts_row() {
        let mut it = trajectory(0, 0, 0.0);
        it.completion = " It is 12.".to_owned();
        it.extra.insert("answer".to_owned(), json!(12));
        it.extra.insert("quality".to_owned(), json!(0.25));
        let of = |source: Value| {
            let source: Source = serde_json::from_value(source).unwrap();
            source.by_column(&it)
        };
        assert_eq!(of(json!({ "from": "answer", "column": "answer" })), Ok(1.0));
        assert_eq!(of(json!({ "from": "column", "column": "quality" })), Ok(0.25));
        assert!(
            of(json!({ "from": "column", "column": "lost" }))
                .unwrap_err()
                .contains("no column `lost`")
        );
    }
}
