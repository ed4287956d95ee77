//! What a made-up world can say, and how its pairs are labelled.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    artifact::{
        dataset::{Fields, PreferenceRow, Row},
        json::Object,
        true_reward::TrueReward,
    },
    nn::statistics::preferred,
};

/// Draws a reply to a prompt.
pub(super) type Reply = Box<dyn Fn(&str, &mut ChaCha8Rng) -> String>;

/// Draws two replies to a prompt.
pub(super) type TwoReplies = Box<dyn Fn(&str, &mut ChaCha8Rng) -> (String, String)>;

/// What a task can say.
pub(super) struct World {
    pub(super) prompts: Vec<String>,
    pub(super) reply: Reply,
    /// Two replies that people compare; two of `reply` by default.
    pub(super) draw_pair: Option<TwoReplies>,
    pub(super) reward: TrueReward,
    /// Pairs with equal rewards teach nothing where most rewards are equal.
    pub(super) seek_contrast: bool,
    /// Further columns of a prompt's rows: the answer, where there is one.
    pub(super) columns: fn(&str) -> Object,
    /// There are no more prompts than these, so one trains on what one evaluates on.
    pub(super) closed: bool,
}

pub(super) fn pick<'a, T: AsRef<str>>(draw: &mut ChaCha8Rng, from: &'a [T]) -> &'a str {
    from[draw.random_range(0..from.len())].as_ref()
}

impl World {
    /// Of few prompts, any two replies to which are compared.
    pub(super) fn closed(prompts: Vec<String>, reply: Reply, reward: TrueReward) -> Self {
        Self {
            prompts,
            reply,
            draw_pair: None,
            reward,
            seek_contrast: false,
            columns: |_| Object::new(),
            closed: true,
        }
    }

    /// Of so many prompts that some are only evaluated on.
    pub(super) fn open(prompts: Vec<String>, reply: Reply, reward: TrueReward) -> Self {
        Self { closed: false, ..Self::closed(prompts, reply, reward) }
    }

    /// A row with the columns of its prompt.
    pub(super) fn row(&self, fields: Fields) -> Row {
        let mut row = Row::from(fields);
        row.extra = (self.columns)(row.prompt());
        row
    }

    fn two(&self, prompt: &str, draw: &mut ChaCha8Rng) -> (String, String) {
        if let Some(two) = &self.draw_pair {
            return two(prompt, draw);
        }
        let one = (self.reply)(prompt, draw);
        (one, (self.reply)(prompt, draw))
    }

    /// Two different replies, the better one chosen with probability σ(Δ reward / noise), or as often as it is preferred.
    pub(super) fn pair(&self, prompt: &str, noise: f64, draw: &mut ChaCha8Rng) -> Row {
        let score = |reply: &str| self.reward.score(prompt, reply);
        let (mut one, mut other) = self.two(prompt, draw);
        for _ in 0..20 {
            let equal = (score(&one) - score(&other)).abs() < 1e-9;
            if one != other && !(equal && self.seek_contrast) {
                break;
            }
            if self.draw_pair.is_some() {
                (one, other) = self.two(prompt, draw);
            } else {
                other = (self.reply)(prompt, draw);
            }
        }
        let better = self.reward.preference(prompt, &one, &other);
        let better = better.unwrap_or_else(|| preferred(score(&one) - score(&other), noise));
        let (chosen, rejected) =
            if draw.random::<f64>() < better { (one, other) } else { (other, one) };
        let prompt = prompt.to_owned();
        self.row(Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin: None }))
    }
}
