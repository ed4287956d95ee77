//! Where a single reward comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    contest::{Against, Contest, Reply, asked, known, won},
    judges::{Judges, lacks},
    model::scored,
    program::judged,
};
use crate::{
    artifact::true_reward::TrueReward,
    error::StageError,
    nn::stream::Stream,
    program::Running,
    rollout::trajectories::Trajectory,
    verifier::{Match, compiled},
};

/// Where a reward comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    /// The input `true_reward`.
    TrueReward,
    /// 1 as often as the input `true_reward` says, else 0, drawn anew for every completion: a judge who knows, and is noisy.
    Drawn,
    /// A judge who errs in a way that is known: the input `true_reward` says how, where its task has one.
    Proxy,
    /// The input `reward_model`.
    RewardModel,
    /// How often the input `preference_model` prefers the completion to what it is held `against`, from 0 to 1.
    PreferenceModel,
    /// The same as people truly prefer: the input `true_reward` says so, where its task has preferences.
    TruePreference,
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
pub(super) struct Source {
    /// Where it comes from.
    pub(super) from: From,
    /// Of `reward_model`: which of the input `reward_models` it is, by the stage that made it. Left out, it is the input `reward_model`.
    #[serde(default)]
    model: Option<String>,
    /// Of `reward_model`: whether it is `σ` of the score, which of a model by `feedback.pointwise` is how likely the completion is liked.
    #[serde(default)]
    probability: bool,
    /// Of `true_reward` and `drawn`: which part of it, where the task has several. Left out, the whole.
    #[serde(default)]
    part: Option<String>,
    /// Whether the expression sees it in deviations from the mean of the rollouts that came in as `yardstick`, so that weights of
    /// several rewards mean the same.
    #[serde(default)]
    pub(super) standardise: bool,
    /// Of preferences: what a completion is held against.
    #[serde(default)]
    against: Against,
    /// Of `answer`, `column` and `against: column`: the column.
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
    pub(super) program: Running,
}

impl Source {
    /// Refuses one that lacks what it needs.
    pub(super) fn check(&self) -> Result<(), String> {
        let needs = |given: bool, key: &str, of: &str| {
            if given { Ok(()) } else { Err(format!("`from: {of}` needs a `{key}`")) }
        };
        let of_truth = matches!(self.from, From::TrueReward | From::Drawn);
        if self.part.is_some() && !of_truth {
            return Err("`part` is of `from: true_reward` or `drawn`: leave it out".to_owned());
        }
        if (self.model.is_some() || self.probability) && self.from != From::RewardModel {
            return Err(
                "`model` and `probability` are of `from: reward_model`: leave them out".to_owned()
            );
        }
        if self.standardise && self.from == From::Environment {
            return Err(
                "what an environment gives turn by turn is not standardised: leave `standardise` out"
                    .to_owned(),
            );
        }
        match self.from {
            From::Answer => needs(self.column.is_some(), "column", "answer"),
            From::Column => needs(self.column.is_some(), "column", "column"),
            From::Format => {
                needs(self.pattern.is_some(), "pattern", "format")?;
                compiled(self.pattern.as_deref().unwrap_or_default()).map(drop)
            }
            From::PreferenceModel | From::TruePreference if self.against == Against::Column => {
                needs(self.column.is_some(), "column", "preference_model` and `against: column")
            }
            From::TrueReward
            | From::PreferenceModel
            | From::TruePreference
            | From::Drawn
            | From::Proxy
            | From::RewardModel
            | From::Environment
            | From::Program => Ok(()),
        }
    }

    /// Whether completions are held against a rival's.
    pub(super) fn needs_rival(&self) -> bool {
        self.is_preference() && self.against == Against::Rival
    }

    /// Whether completions of a prompt are held against each other.
    pub(super) fn is_against_others(&self) -> bool {
        self.is_preference() && self.against == Against::Others
    }

    fn is_preference(&self) -> bool {
        [From::PreferenceModel, From::TruePreference].contains(&self.from)
    }

    /// A value for every trajectory; `heard` ends it if a person asked for that.
    pub(super) fn of(
        &self,
        name: &str,
        all: &[Trajectory],
        judges: &Judges,
        rivals: Option<&[Vec<Reply>]>,
        draws: Stream,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        let lacks = |port: &str| lacks(port, port);
        match self.from {
            From::TrueReward => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                all.iter().map(|it| self.truth(reward, it)).collect()
            }
            From::Drawn => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                let toss = |(it, draws): (&Trajectory, Stream)| {
                    let chance = self.truth(reward, it)?;
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
                let (judge, page) = judges.reward_model(self.model.as_deref())?;
                let texts = all.iter().map(|it| ([&*it.prompt, &*it.completion], it.tokens.ended));
                let found = scored(texts, judge, page, heard)?;
                let likely = |score: f64| 1.0 / (1.0 + (-score).exp());
                Ok(if self.probability { found.into_iter().map(likely).collect() } else { found })
            }
            From::PreferenceModel => {
                let (judge, page) =
                    judges.preference_model.as_ref().ok_or_else(|| lacks("preference_model"))?;
                won(&self.contests(all, judges, rivals)?, |all| asked(all, judge, page, heard))
            }
            From::TruePreference => {
                let reward = judges.true_reward.as_ref().ok_or_else(|| lacks("true_reward"))?;
                won(&self.contests(all, judges, rivals)?, |all| known(all, reward))
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

    /// What the true reward says of a completion, or that part of it.
    fn truth(&self, reward: &TrueReward, it: &Trajectory) -> Result<f64, StageError> {
        let Some(part) = &self.part else { return Ok(reward.score(&it.prompt, it.reply())) };
        reward.part(part, &it.prompt, it.reply()).ok_or_else(|| {
            StageError::refused(format!("the true reward of this task has no part `{part}`"))
        })
    }

    fn column(&self) -> &str {
        self.column.as_deref().unwrap_or_default()
    }

    /// Whom the completions meet.
    fn contests(
        &self,
        all: &[Trajectory],
        judges: &Judges,
        rivals: Option<&[Vec<Reply>]>,
    ) -> Result<Vec<Vec<Contest>>, StageError> {
        self.against.contests(all, self.column(), judges.opponents.as_ref(), rivals)
    }

    /// By what stands in its column of a trajectory.
    fn by_column(&self, it: &Trajectory) -> Result<f64, String> {
        let column = self.column();
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
