//! Answers that stand in a person's rows: a completion is right if it has the one to its prompt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verifier::Match;

/// 1 for a completion that has the answer to its prompt, else 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerReward {
    /// How a completion is held against an answer.
    pub(crate) r#match: Match,
    /// By prompt; each can be asked for as `match` says.
    pub(crate) answers: BTreeMap<String, String>,
}

impl AnswerReward {
    /// No number of a prompt whose answer is not known: whoever measures by it then refuses the row.
    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let held = |answer: &String| self.r#match.holds(completion, answer).ok();
        self.answers.get(prompt).and_then(held).map_or(f64::NAN, f64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_right_by_the_answer_to_its_own_prompt() {
        let answers = [("2 apples and 3?", "2 + 3 = 5\n#### 5"), ("3 and 4?", "#### 7")];
        let answers = answers.map(|(prompt, answer)| (prompt.to_owned(), answer.to_owned()));
        let reward = AnswerReward { r#match: Match::Gsm8k, answers: answers.into() };
        assert!(reward.score("2 apples and 3?", " It is\n#### 5") > 0.5);
        assert!(reward.score("3 and 4?", "#### 5") < 0.5);
        assert!(reward.score("5 and 6?", "#### 11").is_nan());
    }
}
