//! What a made-up world can say, and how its pairs are labelled.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::artifact::{
    dataset::{Fields, PreferenceRow, Row},
    true_reward::TrueReward,
};

/// Draws a reply to a prompt.
pub(super) type Reply = Box<dyn Fn(&str, &mut ChaCha8Rng) -> String>;

/// What a task can say.
pub(super) struct World {
    pub(super) prompts: Vec<String>,
    pub(super) reply: Reply,
    pub(super) reward: TrueReward,
    /// Pairs with equal rewards teach nothing where most rewards are equal.
    pub(super) seek_contrast: bool,
}

pub(super) fn pick<'a, T: AsRef<str>>(draw: &mut ChaCha8Rng, from: &'a [T]) -> &'a str {
    from[draw.random_range(0..from.len())].as_ref()
}

impl World {
    /// Two different replies, the better one chosen with probability σ(Δ reward / noise).
    pub(super) fn pair(&self, prompt: &str, noise: f64, draw: &mut ChaCha8Rng) -> Row {
        let score = |reply: &str| self.reward.score(prompt, reply);
        let one = (self.reply)(prompt, draw);
        let mut other = (self.reply)(prompt, draw);
        for _ in 0..20 {
            let equal = (score(&one) - score(&other)).abs() < 1e-9;
            if one != other && !(equal && self.seek_contrast) {
                break;
            }
            other = (self.reply)(prompt, draw);
        }
        let better = preferred(score(&one) - score(&other), noise);
        let (chosen, rejected) =
            if draw.random::<f64>() < better { (one, other) } else { (other, one) };
        let prompt = prompt.to_owned();
        Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin: None }).into()
    }
}

/// Bradley-Terry: the probability that the first of two is preferred.
fn preferred(difference: f64, noise: f64) -> f64 {
    if difference == 0.0 {
        0.5
    } else if noise > 0.0 {
        1.0 / (1.0 + (-difference / noise).exp())
    } else {
        f64::from(difference > 0.0)
    }
}
