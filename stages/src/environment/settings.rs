//! The parameter `environment`: who replies to a policy, and how long they talk.

use gradus_protocol::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{program::External, rewarded::Rewarded, verified::Verified, world::World};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    error::StageError,
    port::file_of,
    program::{Program, Running},
    verifier::Match,
};

/// Who replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum From {
    /// Asks again until a reply has the answer that stands in `column` of the prompt's row. That is worth 1.
    Verifier,
    /// The same, and says what is wrong: that the number is too small, say.
    Critic,
    /// Asks again until the input `true_reward` gives `enough`. A reply is worth what it is better than the one before.
    TrueReward,
    /// The input `environment`, a program that speaks lines of JSON (docs/programs.md).
    Program,
}

/// A world that the policy talks to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Environment {
    /// Who replies.
    from: From,
    /// How often the policy may speak.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1000))]
    turns: usize,
    /// Of `verifier` and `critic`: the column with the answer.
    #[serde(default = "answer")]
    column: String,
    /// Of `verifier` and `critic`: how a reply is held against it.
    #[serde(default)]
    r#match: Match,
    /// Of `true_reward`: what is good enough.
    #[serde(default = "one")]
    enough: f64,
    /// What is said to a reply that will not do, where `{prompt}` stands for the prompt, and `{critique}` for what a critic
    /// says. By default that and the prompt, on lines of their own.
    #[serde(default)]
    again: Option<String>,
    /// Of `program`: how it is run and waited for.
    #[serde(default)]
    program: Running,
}

fn two() -> usize {
    2
}
fn one() -> f64 {
    1.0
}
fn answer() -> String {
    "answer".to_owned()
}

/// What worlds need of what came in.
#[derive(Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) true_reward: Option<&'a artifact::TrueReward>,
    pub(crate) program: Option<&'a artifact::File>,
}

/// A world, and how often it may be spoken to.
pub(crate) struct Opened {
    pub(crate) world: Box<dyn World>,
    pub(crate) turns: usize,
    /// What all that it says follows from.
    pub(crate) identity: String,
}

impl Environment {
    pub(crate) fn turns(&self) -> usize {
        self.turns
    }

    /// Whether what it gives is 1 for a right answer, and else 0.
    pub(crate) fn is_right_or_wrong(&self) -> bool {
        matches!(self.from, From::Verifier | From::Critic)
    }

    pub(crate) fn open(&self, came: Came<'_>) -> Result<Opened, StageError> {
        let lacks = |from: &str, port: &str| {
            StageError::refused(format!(
                "`environment: {{ from: {from} }}` needs the input `{port}`"
            ))
        };
        let again = |default: &str| self.again.clone().unwrap_or_else(|| default.to_owned());
        let verified = |words: &str| Verified {
            column: self.column.clone(),
            how: self.r#match,
            again: again(words),
            questions: Vec::new(),
        };
        let mut of: Option<&Source> = None;
        let world: Box<dyn World> = match self.from {
            From::Verifier => Box::new(verified("\nThat is wrong.\n{prompt}")),
            From::Critic => Box::new(verified("\n{critique}\n{prompt}")),
            From::TrueReward => {
                let source = came.true_reward.map(|it| &it.source);
                let source = source.ok_or_else(|| lacks("true_reward", "true_reward"))?;
                of = Some(source);
                Box::new(Rewarded {
                    reward: TrueReward::load(file_of(source)?)?,
                    enough: self.enough,
                    again: again("\nThat will not do.\n{prompt}"),
                    questions: Vec::new(),
                })
            }
            From::Program => {
                let source = came.program.map(|it| &it.source);
                let source = source.ok_or_else(|| lacks("program", "environment"))?;
                of = Some(source);
                Box::new(External::new(Program::place("environment", source, &self.program)?))
            }
        };
        let mut settings = json!(self);
        settings["program"] = json!(self.program.words());
        let own = of.map(digest).transpose()?;
        Ok(Opened { world, turns: self.turns, identity: json!([settings, own]).to_string() })
    }
}

/// Opens what was asked for, if anything was.
pub(crate) fn opened(
    wanted: Option<&Environment>,
    came: Came<'_>,
) -> Result<Option<Opened>, StageError> {
    wanted.map(|it| it.open(came)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_something_says_so() {
        let open = |text: serde_json::Value| {
            let environment: Environment = serde_json::from_value(text).unwrap();
            let came = Came { true_reward: None, program: None };
            environment.open(came).map(|it| it.turns).map_err(|error| error.to_string())
        };
        assert_eq!(open(json!({ "from": "verifier" })), Ok(2));
        assert_eq!(open(json!({ "from": "critic", "turns": 5 })), Ok(5));
        assert_eq!(
            open(json!({ "from": "program" })).unwrap_err(),
            "`environment: { from: program }` needs the input `environment`"
        );
        assert!(open(json!({ "from": "true_reward" })).unwrap_err().contains("`true_reward`"));
    }
}
