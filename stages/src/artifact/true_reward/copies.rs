//! Answers of six letters, each a translation of one of the prompt's three, and a judge who thinks more of some prompts than of
//! others (after Wu et al. 2023, "Pairwise Proximal Policy Optimization": comparisons say nothing of what a prompt adds to the
//! rewards of all its answers).

use serde::{Deserialize, Serialize};

use super::whim::whim;

/// Letters of prompts and answers, `a` the first.
pub(crate) const LETTERS: u8 = 8;
/// Which letter of the prompt each letter of the answer follows.
pub(crate) const SOURCES: [usize; 6] = [0, 1, 2, 2, 1, 0];

/// The true reward is the sum of the weights of those places that are translated rightly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyReward {
    /// Of each place, what stands for `a`, `b` and so on.
    pub(crate) translations: [String; 6],
    pub(crate) weights: [f64; 6],
    /// The deviation of what a judge adds, prompt by prompt.
    pub(crate) shift: f64,
    /// What that derives from.
    pub(crate) seed: u64,
}

impl CopyReward {
    /// The right answer.
    pub(crate) fn target(&self, prompt: &str) -> String {
        let translated = |(translation, source): (&String, usize)| {
            let letter = prompt.as_bytes().get(source)?.checked_sub(b'a')?;
            translation.chars().nth(usize::from(letter))
        };
        self.translations.iter().zip(SOURCES).filter_map(translated).collect()
    }

    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let target = self.target(prompt);
        let each = completion.chars().zip(target.chars()).zip(self.weights);
        each.filter(|((said, right), _)| said == right).map(|(_, weight)| weight).sum()
    }

    /// What the judge says: the true reward, and what the prompt is worth to it, which is normally distributed.
    pub(super) fn proxy(&self, prompt: &str, completion: &str) -> f64 {
        let [radius, angle] = ["radius", "angle"].map(|it| whim(self.seed, &[prompt, it]));
        // Box and Muller 1958.
        let normal =
            (-2.0 * (1.0 - radius).max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        self.score(prompt, completion) + self.shift * normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_as_they_weigh_and_a_shift_is_a_prompts() {
        let reward = CopyReward {
            translations: std::array::from_fn(|place| {
                let mut letters: Vec<char> = ('a'..='h').collect();
                letters.rotate_left(place);
                letters.into_iter().collect()
            }),
            weights: [1.0, 0.5, 0.75, 1.25, 1.5, 0.6],
            shift: 5.0,
            seed: 3,
        };
        // a, b and c, then c, b and a, each moved by its place.
        assert_eq!(reward.target("abc"), "acefff");
        assert!((reward.score("abc", "acefff") - 5.6).abs() < 1e-12);
        assert!((reward.score("abc", "aceaff") - 4.35).abs() < 1e-12);
        assert!(reward.score("abc", "").abs() < 1e-12);
        let shift =
            |prompt: &str, said: &str| reward.proxy(prompt, said) - reward.score(prompt, said);
        assert!((shift("abc", "acefff") - shift("abc", "hh")).abs() < 1e-9);
        // All prompts together: a mean near 0 and a deviation near 5.
        let letters = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let all = letters.iter().flat_map(|a| letters.iter().map(move |b| format!("{a}{b}a")));
        let shifts: Vec<f64> = all.map(|prompt| shift(&prompt, "")).collect();
        let mean = shifts.iter().sum::<f64>() / 64.0;
        let deviation = (shifts.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / 64.0).sqrt();
        assert!(mean.abs() < 2.0 && (4.0..6.0).contains(&deviation), "{mean} {deviation}");
    }
}
