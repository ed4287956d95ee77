//! Locks: each prompt has a key of eight letters, and a reply is worth something only if almost all of its beginning is right
//! (after Chang et al. 2024, "Dataset Reset Policy Optimization": what is far from where a policy begins is found from what
//! others have shown).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Letters of keys, `a` the first.
pub(crate) const LETTERS: u8 = 10;
pub(crate) const LENGTH: usize = 8;
/// So many right letters at the beginning are worth nothing yet.
const WORTHLESS: usize = 6;

/// Half a point for each letter beyond six of the beginning that is as in the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyReward {
    /// Prompt → its key.
    pub(crate) keys: BTreeMap<String, String>,
}

impl KeyReward {
    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let Some(key) = self.keys.get(prompt) else { return 0.0 };
        let right = key.bytes().zip(completion.bytes()).take_while(|(a, b)| a == b).count();
        right.saturating_sub(WORTHLESS) as f64 / (LENGTH - WORTHLESS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_right_beginning_counts() {
        let reward = KeyReward { keys: [("A".to_owned(), "abcdefgh".to_owned())].into() };
        let close = |completion: &str, by_hand: f64| {
            assert!((reward.score("A", completion) - by_hand).abs() < 1e-12, "{completion}");
        };
        close("abcdefgh", 1.0);
        close("abcdefgj", 0.5);
        close("abcdefjh", 0.0);
        close("bbcdefgh", 0.0);
        close("", 0.0);
        assert!(reward.score("B", "abcdefgh").abs() < 1e-12);
    }
}
