//! Which rollouts go on: policy filtration (Zhang et al. 2025, "Policy Filtration for RLHF", section 4).
//!
//! A learnt reward is more to be trusted where it is extreme than where it is lukewarm. So of the N completions of a prompt,
//! ranked by reward, only those at reliable ranks are learnt from. Ranks are within a prompt: over a batch they would pick
//! easy prompts, not reliable completions.

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// All.
    None,
    /// The best of each prompt, twice, so that as many are learnt from as with two of them.
    BestOfN,
    /// The best of each prompt and a random one of the others.
    BestRandom,
    /// The best and the worst of each prompt.
    BestWorst,
    /// `keep` random ones of each prompt: what any other choice must beat.
    RandomK,
    /// Those with a reward above `high`.
    Top,
    /// Those with a reward above `high`, and each other with probability one half.
    TopRandom,
    /// Those with a reward above `high` or below `low`.
    TopBottom,
}

/// How the choice is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) strategy: Strategy,
    pub(crate) keep: usize,
    pub(crate) high: f64,
    pub(crate) low: f64,
}

impl Choice {
    /// The positions that are kept of one prompt's rewards, which stand in the order of their samples; of equal ones the
    /// first counts as the better.
    pub(crate) fn of(self, rewards: &[f64], draw: &mut ChaCha8Rng) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..rewards.len()).collect();
        ranked.sort_by(|a, b| rewards[*b].total_cmp(&rewards[*a]));
        let (Some(best), Some(worst)) = (ranked.first(), ranked.last()) else { return Vec::new() };
        let all = 0..rewards.len();
        let mut kept: Vec<usize> = match self.strategy {
            Strategy::None => all.collect(),
            Strategy::BestOfN => vec![*best, *best],
            // A single completion is both.
            _ if rewards.len() == 1 && self.is_of_two() => vec![*best],
            Strategy::BestRandom => vec![*best, ranked[draw.random_range(1..ranked.len())]],
            Strategy::BestWorst => vec![*best, *worst],
            Strategy::RandomK => {
                let mut order: Vec<usize> = all.collect();
                order.shuffle(draw);
                order.truncate(self.keep);
                order
            }
            Strategy::Top => all.filter(|i| rewards[*i] > self.high).collect(),
            Strategy::TopRandom => {
                // One number for each, so that what is drawn for one does not hang on the others.
                let coins: Vec<bool> = rewards.iter().map(|_| draw.random_bool(0.5)).collect();
                all.filter(|i| rewards[*i] > self.high || coins[*i]).collect()
            }
            Strategy::TopBottom => {
                all.filter(|i| rewards[*i] > self.high || rewards[*i] < self.low).collect()
            }
        };
        kept.sort_unstable();
        kept
    }

    /// How many of `all` completions of a prompt are kept, at most.
    pub(crate) fn most(self, all: usize) -> usize {
        match self.strategy {
            Strategy::BestOfN => 2,
            Strategy::BestRandom | Strategy::BestWorst => all.min(2),
            Strategy::RandomK => all.min(self.keep),
            Strategy::None | Strategy::Top | Strategy::TopRandom | Strategy::TopBottom => all,
        }
    }

    fn is_of_two(self) -> bool {
        matches!(self.strategy, Strategy::BestRandom | Strategy::BestWorst)
    }
}

/// Bins of the R² between reward and true score; the paper does not give its number.
pub(super) const BINS: usize = 20;

/// R² of the least-squares line through (reward, true score): of all single samples, or of the means of bins of equal
/// counts, as the paper groups them. None where the true scores do not vary.
pub(super) fn r_squared(samples: &[(f64, f64)], bins: Option<usize>) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mean = |part: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        part.iter().map(of).sum::<f64>() / part.len() as f64
    };
    let points: Vec<(f64, f64)> = match bins {
        None => sorted,
        Some(bins) => {
            let edge = |bin: usize| bin * sorted.len() / bins;
            let parts = (0..bins).map(|bin| &sorted[edge(bin)..edge(bin + 1)]);
            let parts = parts.filter(|part| !part.is_empty());
            parts.map(|part| (mean(part, |it| it.0), mean(part, |it| it.1))).collect()
        }
    };
    if points.len() < 3 {
        return None;
    }
    let (x, y) = (mean(&points, |it| it.0), mean(&points, |it| it.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let (xx, yy) = (sum(&|it| (it.0 - x).powi(2)), sum(&|it| (it.1 - y).powi(2)));
    let xy = sum(&|it| (it.0 - x) * (it.1 - y));
    // 1 − Σ (s − fit)² / Σ (s − mean)², which of a line by least squares is the squared correlation.
    (xx > 0.0 && yy > 0.0).then(|| xy * xy / (xx * yy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::stream::Stream;

    fn choice(strategy: Strategy) -> Choice {
        Choice { strategy, keep: 2, high: 0.5, low: -0.5 }
    }

    fn kept(strategy: Strategy, rewards: &[f64], seed: u64) -> Vec<usize> {
        choice(strategy).of(rewards, &mut Stream::of(seed).generator())
    }

    #[test]
    fn ranks_are_of_rewards_and_ties_go_to_the_first() {
        let rewards = [0.1, 0.9, -0.7, 0.9, -0.7];
        assert_eq!(kept(Strategy::None, &rewards, 1), [0, 1, 2, 3, 4]);
        assert_eq!(kept(Strategy::BestOfN, &rewards, 1), [1, 1]);
        assert_eq!(kept(Strategy::BestWorst, &rewards, 1), [1, 4]);
        assert_eq!(kept(Strategy::Top, &rewards, 1), [1, 3]);
        assert_eq!(kept(Strategy::TopBottom, &rewards, 1), [1, 2, 3, 4]);
        for strategy in [Strategy::BestRandom, Strategy::BestWorst, Strategy::None] {
            assert_eq!(kept(strategy, &[0.3], 1), [0]);
        }
        // Of two, the other is the worst.
        for seed in 0..9 {
            assert_eq!(kept(Strategy::BestRandom, &[0.1, 0.2], seed), [0, 1]);
        }
    }

    /// Of N = 5: the best with weight 1/2, each other with 1/8.
    #[test]
    fn draws_are_as_frequent_as_the_weights_say() {
        let rewards = [0.2, 0.4, 1.0, 0.1, -3.0];
        let (mut random, mut coins, mut any) = ([0; 5], [0; 5], [0; 5]);
        let count = 8000;
        for seed in 0..count {
            for i in kept(Strategy::BestRandom, &rewards, seed) {
                random[i] += 1;
            }
            for i in kept(Strategy::TopRandom, &rewards, seed) {
                coins[i] += 1;
            }
            for i in kept(Strategy::RandomK, &rewards, seed) {
                any[i] += 1;
            }
        }
        let near = |found: [i32; 5], expected: [f64; 5]| {
            for (found, p) in found.into_iter().zip(expected) {
                let (n, found) = (count as f64, f64::from(found));
                assert!(
                    (found - n * p).abs() <= 3.5 * (n * p * (1.0 - p)).sqrt() + 1e-9,
                    "{found} {p}"
                );
            }
        };
        near(random, [0.25, 0.25, 1.0, 0.25, 0.25]);
        near(coins, [0.5, 0.5, 1.0, 0.5, 0.5]);
        near(any, [0.4; 5]);
    }

    #[test]
    fn r_squared_is_of_the_line_through_the_bins() {
        let line: Vec<_> = (0..100).map(|i| (f64::from(i), 2.0 * f64::from(i) + 1.0)).collect();
        assert!((r_squared(&line, None).unwrap() - 1.0).abs() < 1e-12);
        assert!((r_squared(&line, Some(BINS)).unwrap() - 1.0).abs() < 1e-12);
        // (0, 0), (1, 1), (2, 0), (3, 1): r = 1 / √5.
        let zigzag = [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0), (3.0, 1.0)];
        assert!((r_squared(&zigzag, None).unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(r_squared(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)], None), None);
    }

    /// Groups whose moderate rewards say nothing: the better a choice, the better reward and score agree.
    #[test]
    fn extreme_ranks_agree_with_the_true_score_where_moderate_rewards_say_nothing() {
        let mut draw = Stream::of(3).generator();
        let group = |draw: &mut ChaCha8Rng| -> Vec<(f64, f64)> {
            let sample = |draw: &mut ChaCha8Rng| {
                let score = f64::from(draw.random_bool(0.4));
                let reward = match (draw.random_bool(0.5), score > 0.0) {
                    (true, _) => draw.random_range(-0.6..0.6),
                    (false, true) => draw.random_range(0.6..1.0),
                    (false, false) => draw.random_range(-1.0..-0.6),
                };
                (reward, score)
            };
            (0..5).map(|_| sample(draw)).collect()
        };
        let groups: Vec<_> = (0..4000).map(|_| group(&mut draw)).collect();
        let of = |strategy: Strategy| {
            let mut draws = Stream::of(8);
            let mut kept = Vec::new();
            for (number, group) in groups.iter().enumerate() {
                let rewards: Vec<f64> = group.iter().map(|it| it.0).collect();
                let chosen = choice(strategy).of(&rewards, &mut draws.at(number).generator());
                kept.extend(chosen.into_iter().map(|i| group[i]));
            }
            r_squared(&kept, Some(BINS)).unwrap()
        };
        let order =
            [Strategy::BestOfN, Strategy::None, Strategy::BestRandom, Strategy::BestWorst].map(of);
        assert!(order.is_sorted(), "{order:?}");
        // What a prototype of the paper's rule found.
        for (found, known) in order.into_iter().zip([0.723, 0.817, 0.854, 0.923]) {
            assert!((found - known).abs() < 0.03, "{order:?}");
        }
    }
}
