//! Where rewards come from, and what several of them come to, for rollouts from the disk and for those of the moment alike.

use std::{cell::RefCell, collections::BTreeMap};

use gradus_protocol::Page;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    expression::{Expression, is_name},
    model::scored,
    program::judged,
};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained, stream::Stream},
    port::file_of,
    program::{Program, Running},
    rollout::trajectories::{Trajectory, groups},
    verifier::{Match, compiled},
};

/// What every trajectory has without a source.
const OF_ALL: [&str; 3] = ["tokens", "turns", "ended"];

/// Where a reward comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum From {
    /// The input `true_reward`.
    TrueReward,
    /// 1 as often as the input `true_reward` says, else 0, drawn anew for every completion: a judge who knows, and is noisy.
    Drawn,
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
    /// What the environment gave for all replies together.
    Environment,
    /// What a program of yours says, the input `judge`: it speaks lines of JSON (docs/programs.md).
    Program,
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
    /// Of `program`: how it is run and waited for.
    #[serde(default)]
    program: Running,
}

/// What rollouts are judged by: parameters of `reward.judge` and of whoever learns on-line.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Rewards {
    /// The rewards by their names, each with its source: `{ right: { from: answer, column: answer } }`.
    rewards: BTreeMap<String, Source>,
    /// What they come to: an expression over their names, `tokens` (how many the policy wrote), `turns` (how often it
    /// spoke) and `ended` (1 or 0), say `right + 0.2 * form - 0.001 * tokens`. Of a single reward that itself.
    #[serde(default)]
    reward: Option<String>,
}

/// Who judges, opened.
pub(crate) struct Judges {
    true_reward: Option<TrueReward>,
    reward_model: Option<(Pretrained, Page)>,
    /// The program that came in, and how it is run, for each reward that asks it.
    programs: BTreeMap<String, (RefCell<Program>, Page)>,
}

/// Who came in to judge.
#[derive(Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) true_reward: Option<&'a artifact::TrueReward>,
    pub(crate) reward_model: Option<&'a artifact::RewardModel>,
    pub(crate) program: Option<&'a artifact::File>,
}

impl Judges {
    /// Opens those that came in. What a reward model or a program says of what may come again stands in the ledger, if
    /// `keeps`.
    pub(crate) fn open(
        rewards: &Rewards,
        came: Came<'_>,
        keeps: bool,
        context: &Context,
    ) -> Result<Self, StageError> {
        let true_reward =
            came.true_reward.map(|it| TrueReward::load(file_of(&it.source)?)).transpose()?;
        let page = |of: &str, revision: u32, settings: &Value| {
            if keeps { context.page(of, revision, settings) } else { Page::blank() }
        };
        let opened = |it: &artifact::RewardModel| {
            let judge = Pretrained::open("reward_model", &it.source, Head::Score, context.device)?;
            let page = page("score", 2, &json!(Some(digest(&it.source)?)));
            Ok::<_, StageError>((judge, page))
        };
        let reward_model = came.reward_model.map(opened).transpose()?;
        let mut programs = BTreeMap::new();
        for (name, source) in rewards.rewards.iter().filter(|(_, it)| it.from == From::Program) {
            let program = &came.program.ok_or_else(|| lacks("program", "judge"))?.source;
            let settings = json!([digest(program)?, source.program.words()]);
            let page = page("program", 1, &settings);
            let program = RefCell::new(Program::place("judge", program, &source.program)?);
            programs.insert(name.clone(), (program, page));
        }
        Ok(Self { true_reward, reward_model, programs })
    }
}

fn lacks(from: &str, port: &str) -> StageError {
    StageError::refused(format!("`from: {from}` needs the input `{port}`"))
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
        mut draws: Stream,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        for (name, source) in &self.rewards {
            let values = source.of(name, all, judges, draws.named(name), heard)?;
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
            values.insert("turns".to_owned(), trajectory.turns.len().max(1) as f64);
            values.insert("ended".to_owned(), f64::from(trajectory.tokens.ended));
            let wrong = |why| StageError::refused(format!("row {}: `reward`: {why}", at + 1));
            let reward = expression.of(&values).map_err(wrong)?;
            trajectory.reward = Some(reward);
            rewards.push(reward);
        }
        Ok(rewards)
    }

    /// What of the reward a conversation had before its last turn, turn by turn: by how much each raised what `expression`
    /// comes to. What judges the whole, a reward model say, comes with the last turn.
    pub(crate) fn earlier(
        &self,
        expression: &Expression,
        it: &Trajectory,
    ) -> Result<Vec<f64>, StageError> {
        let mut values: BTreeMap<String, f64> =
            it.rewards.keys().map(|name| (name.clone(), 0.0)).collect();
        values.insert("ended".to_owned(), 0.0);
        let given = |(_, source): &(&String, &Source)| source.from == From::Environment;
        let by_environment: Vec<&String> =
            self.rewards.iter().filter(given).map(|(name, _)| name).collect();
        let (mut before, mut so_far) = (0.0, 0.0);
        let mut parts = Vec::new();
        let turns = it.turns.iter().zip(it.tokens.by_turn()).zip(1..);
        for ((turn, tokens), number) in turns.take(it.turns.len().saturating_sub(1)) {
            so_far += turn.reward;
            for name in &by_environment {
                values.insert((*name).clone(), so_far);
            }
            values.insert("tokens".to_owned(), tokens as f64);
            values.insert("turns".to_owned(), f64::from(number));
            let wrong = |why| StageError::refused(format!("`reward` after turn {number}: {why}"));
            let value = expression.of(&values).map_err(wrong)?;
            parts.push(value - std::mem::replace(&mut before, value));
        }
        Ok(parts)
    }

    /// Whether one of them is a model's, which can be far from what it stands for.
    pub(crate) fn is_learnt(&self) -> bool {
        self.rewards.values().any(|it| it.from == From::RewardModel)
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rewards.keys().map(String::as_str)
    }

    /// What the rewards come to; an error if they cannot be what they are said to be.
    pub(crate) fn check(&self) -> Result<Expression, StageError> {
        let names: Vec<&str> = self.rewards.keys().map(String::as_str).collect();
        for (name, source) in &self.rewards {
            if !is_name(name) || OF_ALL.contains(&name.as_str()) {
                return Err(StageError::refused(format!(
                    "no reward can be called `{name}`: letters, digits and `_`, and neither `tokens`, `turns` nor `ended`"
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
        let known: Vec<&str> = names.into_iter().chain(OF_ALL).collect();
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
            From::TrueReward
            | From::Drawn
            | From::Proxy
            | From::RewardModel
            | From::Environment
            | From::Program => Ok(()),
        }
    }

    /// A value for every trajectory; `heard` ends it if a person asked for that.
    fn of(
        &self,
        name: &str,
        all: &[Trajectory],
        judges: &Judges,
        draws: Stream,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        let lacks = |port: &str| lacks(port, port);
        match self.from {
            From::TrueReward => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                Ok(all.iter().map(|it| reward.score(&it.prompt, it.reply())).collect())
            }
            From::Drawn => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                let toss = |(it, draws): (&Trajectory, Stream)| {
                    let chance = reward.score(&it.prompt, it.reply());
                    let none = || {
                        StageError::refused(format!(
                            "`from: drawn` needs a true reward between 0 and 1, and one is {chance}"
                        ))
                    };
                    let chance =
                        (0.0..=1.0).contains(&chance).then_some(chance).ok_or_else(none)?;
                    Ok(f64::from(draws.uniforms(1).all(|it| it < chance)))
                };
                all.iter().zip(draws.rows(all.len())).map(toss).collect()
            }
            From::Proxy => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                let none = || StageError::refused("`from: proxy`: this task has no such judge");
                let proxy = |it: &Trajectory| reward.proxy(&it.prompt, it.reply());
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
                Ok(all.iter().map(|it| f64::from(pattern.is_match(it.reply()))).collect())
            }
            From::Environment => {
                let given = |(row, it): (usize, &Trajectory)| match it.turns.as_slice() {
                    [] => Err(StageError::refused(format!(
                        "row {}: `from: environment` needs a conversation: sample with an `environment`",
                        row + 1
                    ))),
                    turns => Ok(turns.iter().map(|turn| turn.reward).sum()),
                };
                all.iter().enumerate().map(given).collect()
            }
            From::Program => {
                let (program, page) =
                    judges.programs.get(name).ok_or_else(|| self::lacks("program", "judge"))?;
                judged(all, &mut program.borrow_mut(), page, heard)
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
        self.r#match.holds(it.reply(), &answer).map(f64::from)
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
    `reward: rihgt` names `rihgt`, and there are `form`, `right`, `tokens`, `turns`, `ended`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "a": { "from": "answer" } } })), @"
    the reward `a`: `from: answer` needs a `column`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "tokens": right } })), @"
    no reward can be called `tokens`: letters, digits and `_`, and neither `tokens`, `turns` nor `ended`
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
