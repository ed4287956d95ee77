//! How well some score ranks pairs that people or a known reward have ranked.

use std::collections::BTreeMap;

use super::statistics::{Estimate, Outcomes, mean, rate_of, won};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranking {
    /// Share of pairs that are ranked as labelled; ties count half.
    pub(crate) accuracy: Estimate,
    /// How far the chosen side's score lies above the rejected side's, on average.
    pub(crate) margin: f64,
}

impl Ranking {
    /// From the chosen side's score less the rejected side's, and the prompt of each pair. Pairs of one prompt
    /// are alike, so the interval is over prompts; pairs without a prompt have nothing in common.
    pub(crate) fn of<T: Ord>(margins: &[f64], prompts: &[&[T]]) -> Self {
        let mut outcomes: BTreeMap<(&[T], usize), Outcomes> = BTreeMap::new();
        for (pair, (margin, prompt)) in margins.iter().zip(prompts).enumerate() {
            let apart = if prompt.is_empty() { pair } else { 0 };
            let none = Outcomes { sum: 0.0, count: 0.0 };
            let prompt = outcomes.entry((prompt, apart)).or_insert(none);
            prompt.sum += won(*margin);
            prompt.count += 1.0;
        }
        let outcomes: Vec<_> = outcomes.into_values().collect();
        let nothing = Estimate { value: 0.0, interval: None };
        Self { accuracy: rate_of(&outcomes).unwrap_or(nothing), margin: mean(margins) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[u8] = &[];

    #[test]
    fn a_tie_is_half_a_win() {
        let found = Ranking::of(&[1.0, 0.0, -1.0, 2.0], &[NONE; 4]);
        assert!((found.accuracy.value - 0.625).abs() < 1e-12);
        assert!((found.margin - 0.5).abs() < 1e-12);
    }

    #[test]
    fn pairs_of_one_prompt_are_worth_less_than_as_many_prompts() {
        let margins = [1.0, 1.0, -1.0, -1.0].repeat(10);
        let width = |prompts: &[&[u8]]| {
            let interval = Ranking::of(&margins, prompts).accuracy.interval;
            interval.map(|interval| interval.high - interval.low)
        };
        let names: Vec<u8> = (0..40).collect();
        let apart: Vec<&[u8]> = names.chunks(1).collect();
        let together: Vec<&[u8]> = (0..40).map(|pair| &names[pair / 2..=pair / 2]).collect();
        assert_eq!(width(&apart), width(&[NONE; 40]));
        assert!(width(&together).unwrap() > 1.3 * width(&apart).unwrap());
        assert_eq!(width(&[&names[..1]; 40]), None);
    }
}
