//! Twelve letters in six steps of a thought and an action, of which four actions decide (after Wang et al. 2025, "Harnessing
//! Uncertainty: Entropy-Modulated Policy Gradients").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Letters of thoughts and actions, `a` the first.
pub(crate) const LETTERS: u8 = 8;
/// Letters of a reply: two a step.
pub(crate) const LENGTH: usize = 12;
/// Where the actions stand that decide.
pub(crate) const CRITICAL: [usize; 4] = [1, 5, 7, 11];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepReward {
    /// The right actions at the places that decide.
    pub(crate) keys: BTreeMap<String, [char; CRITICAL.len()]>,
}

impl StepReward {
    /// Whether all of them are right.
    pub(super) fn is_right(&self, prompt: &str, completion: &str) -> bool {
        let said: Vec<char> = completion.chars().collect();
        let Some(key) = self.keys.get(prompt) else { return false };
        said.len() == LENGTH && CRITICAL.iter().zip(key).all(|(at, it)| said[*at] == *it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_twelve_letters_decide() {
        let keys = [("A".to_owned(), ['a', 'b', 'c', 'd'])].into();
        let reward = StepReward { keys };
        let right = |completion: &str| reward.is_right("A", completion);
        assert!(right("hahhhbhchhhd") && right("aagegbacffed"));
        for wrong in ["hahhhbhchhhe", "hbhhhbhchhhd", "hahhhbhchhh", "hahhhbhchhhdh", ""] {
            assert!(!right(wrong), "{wrong}");
        }
    }
}
