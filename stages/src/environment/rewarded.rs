//! A reader who knows the reward that made the data asks again until a reply is good enough.

use super::world::{Heard, Outcome, Question, World};
use crate::{artifact::true_reward::TrueReward, error::StageError};

pub(super) struct Rewarded {
    pub(super) reward: TrueReward,
    /// A reply with so much ends it.
    pub(super) enough: f64,
    /// What is said to one with less; `{prompt}` stands for the question.
    pub(super) again: String,
    /// Each question, and what the last reply to it came to.
    pub(super) questions: Vec<(Question, f64)>,
}

impl World for Rewarded {
    fn reset(
        &mut self,
        questions: Vec<Question>,
        _heard: Heard<'_>,
    ) -> Result<Vec<String>, StageError> {
        self.questions = questions.into_iter().map(|it| (it, 0.0)).collect();
        Ok(vec![String::new(); self.questions.len()])
    }

    /// Rewards are what a reply is better than the one before, so that they come to the last one's.
    fn step(
        &mut self,
        replies: &[(usize, String)],
        _heard: Heard<'_>,
    ) -> Result<Vec<Outcome>, StageError> {
        let outcome = |(at, reply): &(usize, String)| {
            let (question, before) = &mut self.questions[*at];
            let found = self.reward.score(&question.prompt, reply);
            let reward = found - std::mem::replace(before, found);
            let again = || self.again.replace("{prompt}", &question.prompt);
            let observation = (found < self.enough).then(again);
            Outcome { observation, reward, ..Outcome::default() }
        };
        Ok(replies.iter().map(outcome).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::json::Object;

    #[test]
    fn a_better_reply_is_worth_what_it_is_better() {
        let mut world = Rewarded {
            reward: TrueReward::Arithmetic {},
            enough: 1.0,
            again: " No. {prompt}".to_owned(),
            questions: Vec::new(),
        };
        let question = Question { prompt: "7 + 5 =".to_owned(), columns: Object::new() };
        let heard = &mut || Ok(());
        world.reset(vec![question], heard).unwrap();
        let mut step = |reply: &str| world.step(&[(0, reply.to_owned())], heard).unwrap().remove(0);
        let wrong = step(" 11");
        assert_eq!((wrong.observation.as_deref(), wrong.reward), (Some(" No. 7 + 5 ="), 0.0));
        let right = step(" 12");
        assert_eq!((right.observation, right.reward), (None, 1.0));
    }
}
