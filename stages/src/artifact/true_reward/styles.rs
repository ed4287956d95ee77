//! Answers of one letter behind one to eight others, where how often the right one is believed hangs on how many (after Chen et al.
//! 2026, "CANON: Conditional Advantage Estimation").

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands before the answer.
pub(crate) const FILLER: char = '.';
pub(crate) const MOST_FILLERS: usize = 8;

/// What lengths are believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Believed {
    /// All alike, in seven cases of ten.
    #[default]
    Alike,
    /// Short ones: from 0.95 down to 0.25.
    Short,
    /// Long ones.
    Long,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StyleReward {
    pub(crate) answers: BTreeMap<String, char>,
    pub(crate) believed: Believed,
}

impl StyleReward {
    /// How often it is believed if it is right; else 0.
    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let mut letters = completion.chars();
        let answer = letters.next_back();
        let fillers = letters.clone().count();
        let is_whole = (1..=MOST_FILLERS).contains(&fillers) && letters.all(|it| it == FILLER);
        if !is_whole || answer.is_none() || answer != self.answers.get(prompt).copied() {
            return 0.0;
        }
        match self.believed {
            Believed::Alike => 0.7,
            Believed::Short => 0.95 - 0.1 * (fillers - 1) as f64,
            Believed::Long => 0.25 + 0.1 * (fillers - 1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_answer_is_believed_by_its_length() {
        let reward = |believed| StyleReward { answers: [("A".to_owned(), 'c')].into(), believed };
        let score = |believed, completion: &str| reward(believed).score("A", completion);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(score(Believed::Short, ".c"), 0.95);
        close(score(Believed::Short, "........c"), 0.25);
        close(score(Believed::Long, "...c"), 0.45);
        close(score(Believed::Alike, "...c"), 0.7);
        for wrong in ["", "c", "...d", ".........c", ".x.c", "....", "..c "] {
            close(score(Believed::Alike, wrong), 0.0);
        }
        close(reward(Believed::Alike).score("B", "..c"), 0.0);
    }
}
