//! Answers of six symbols, of which four must be right, and a judge whom hedging deceives (after Zhang et al. 2025, "Policy
//! Filtration for RLHF": rewards are to be trusted where they are extreme).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::whim::whim;

/// Stands for "it depends".
pub(crate) const HEDGE: char = '?';

/// How many symbols must be as in the target.
const ENOUGH: usize = 4;

/// The true reward is 1 if enough symbols are right, else 0. A judge gives a reply with a hedge 0.25 to 0.55 whatever it is
/// worth, and is otherwise sure: 0.6 to 1 of what is right, −1 to −0.6 of what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HedgeReward {
    /// Prompt → the right answer.
    pub(crate) targets: BTreeMap<String, String>,
    /// What the judge's whims derive from.
    pub(crate) seed: u64,
}

impl HedgeReward {
    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let Some(target) = self.targets.get(prompt) else { return 0.0 };
        let as_long = completion.chars().count() <= target.chars().count();
        let right = completion.chars().zip(target.chars()).filter(|(a, b)| a == b).count();
        f64::from(as_long && right >= ENOUGH)
    }

    /// What the judge says.
    pub(super) fn proxy(&self, prompt: &str, completion: &str) -> f64 {
        let whim = whim(self.seed, &[prompt, completion]);
        if completion.contains(HEDGE) {
            0.25 + 0.3 * whim
        } else if self.score(prompt, completion) > 0.5 {
            0.6 + 0.4 * whim
        } else {
            -1.0 + 0.4 * whim
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_six_will_do_and_a_hedge_is_taken_for_half_right() {
        let targets = [("A".to_owned(), "abcdef".to_owned())].into();
        let reward = HedgeReward { targets, seed: 1 };
        let score = |completion| reward.score("A", completion);
        for right in ["abcdef", "abcdaa", "ffcdef", "ab??ef", "abcd"] {
            assert!(score(right) > 0.5, "{right}");
        }
        for wrong in ["abcaaa", "", "bcdefa", "abcdefa", "abc"] {
            assert!(score(wrong) < 0.5, "{wrong}");
        }
        assert!(reward.score("B", "abcdef") < 0.5);
        let proxy = |completion| reward.proxy("A", completion);
        assert!((0.6..=1.0).contains(&proxy("abcdef")) && (-1.0..=-0.6).contains(&proxy("aaaaaa")));
        for hedged in ["ab??ef", "??????", "aaaaa?"] {
            assert!((0.25..=0.55).contains(&proxy(hedged)));
        }
        assert!((proxy("aaaaa?") - proxy("aaaab?")).abs() > 1e-6);
    }
}
