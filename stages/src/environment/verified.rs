//! A verifier asks again until the answer is right; a critic says what is wrong with it, too.

use serde_json::Value;

use super::world::{Heard, Outcome, Question, World};
use crate::{
    error::StageError,
    verifier::{Match, last_number},
};

pub(super) struct Verified {
    /// Where the answer stands.
    pub(super) column: String,
    pub(super) how: Match,
    /// What is said to a wrong reply; `{prompt}` stands for the question, `{critique}` for what is wrong.
    pub(super) again: String,
    pub(super) questions: Vec<Question>,
}

impl World for Verified {
    fn reset(
        &mut self,
        questions: Vec<Question>,
        _heard: Heard<'_>,
    ) -> Result<Vec<String>, StageError> {
        self.questions = questions;
        Ok(vec![String::new(); self.questions.len()])
    }

    fn step(
        &mut self,
        replies: &[(usize, String)],
        _heard: Heard<'_>,
    ) -> Result<Vec<Outcome>, StageError> {
        let outcome = |(at, reply): &(usize, String)| {
            let about =
                |why| StageError::refused(format!("`environment`, prompt {}: {why}", at + 1));
            self.outcome(&self.questions[*at], reply).map_err(about)
        };
        replies.iter().map(outcome).collect()
    }
}

impl Verified {
    fn outcome(&self, question: &Question, reply: &str) -> Result<Outcome, String> {
        let column = &self.column;
        let answer = question.columns.get(column);
        let answer = answer.ok_or_else(|| format!("its row has no column `{column}`"))?;
        let answer = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        let right = self.how.holds(reply, &answer)?;
        let again = || {
            let again = self.again.replace("{critique}", critique(reply, &answer));
            again.replace("{prompt}", &question.prompt)
        };
        Ok(Outcome {
            observation: (!right).then(again),
            reward: f64::from(right),
            columns: [("right".to_owned(), Value::from(right))].into_iter().collect(),
        })
    }
}

/// What is wrong with a reply that should have been `answer`: of numbers, on which side it lies.
fn critique(reply: &str, answer: &str) -> &'static str {
    let number = |text: &str| last_number(text).and_then(|it| it.parse::<f64>().ok());
    match (number(reply), number(answer)) {
        (None, Some(_)) => "That is no number.",
        (Some(said), Some(right)) if said < right => "That is too small.",
        (Some(said), Some(right)) if said > right => "That is too large.",
        _ => "That is wrong.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::json::Object;

    #[test]
    fn a_wrong_reply_hears_what_is_wrong_and_a_right_one_ends_it() {
        let columns: Object = [("answer".to_owned(), Value::from(12))].into_iter().collect();
        let question = Question { prompt: "7 + 5 =".to_owned(), columns };
        let mut world = Verified {
            column: "answer".to_owned(),
            how: Match::Number,
            again: "\n{critique} {prompt}".to_owned(),
            questions: Vec::new(),
        };
        let heard = &mut || Ok(());
        assert_eq!(world.reset(vec![question.clone(), question], heard).unwrap(), ["", ""]);
        let replies = [(1, " 13"), (0, " 12"), (1, " so 2"), (1, " who knows")];
        let found = world.step(&replies.map(|(at, it)| (at, it.to_owned())), heard).unwrap();
        let said: Vec<_> = found.iter().map(|it| it.observation.as_deref()).collect();
        assert_eq!(
            said,
            [
                Some("\nThat is too large. 7 + 5 ="),
                None,
                Some("\nThat is too small. 7 + 5 ="),
                Some("\nThat is no number. 7 + 5 ="),
            ]
        );
        assert_eq!(found.iter().map(|it| it.reward).collect::<Vec<_>>(), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(critique(" maybe", "yes"), "That is wrong.");
        world.column = "lost".to_owned();
        let words = world.step(&[(1, "7".to_owned())], heard).unwrap_err().to_string();
        assert_eq!(words, "`environment`, prompt 2: its row has no column `lost`");
    }
}
