//! Conditional advantages (Chen et al. 2026, "CANON: Conditional Advantage Estimation", section 3): a completion against the half
//! of its group that is unlike it in a metric, and against its own half.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn::statistics::mean;

/// What the completions of a group are ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Metric {
    /// How many tokens the policy wrote.
    Tokens,
    /// The mean entropy of its tokens, of the policy that sampled.
    Entropy,
    /// The order in which they were sampled, which means nothing.
    Order,
    /// One of the rewards.
    Reward(String),
}

impl Metric {
    pub(super) fn called(name: &str) -> Self {
        match name {
            "tokens" => Self::Tokens,
            "entropy" => Self::Entropy,
            "order" => Self::Order,
            reward => Self::Reward(reward.to_owned()),
        }
    }
}

/// A half of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Half {
    /// With less of the metric.
    #[default]
    Low,
    /// With more of it.
    High,
}

/// How the weight of the other half changes while it learns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Schedule {
    /// Not at all.
    #[default]
    Fixed,
    /// It is 1 less the mean reward of the iteration: the trend first, the best within a trend later.
    InterFirst,
    /// It is the mean reward of the iteration.
    IntraFirst,
    /// 1 less a wave: the wave rises to 0.6 over `wave_warmup` iterations, and falls to 0 along three cosines until
    /// `wave_iterations`.
    WaveInterFirst,
    /// That wave.
    WaveIntraFirst,
}

/// Height of the wave, and how often it begins again (the authors' code).
const WAVE: f64 = 0.6;
const CYCLES: f64 = 3.0;

/// How completions are compared.
#[derive(Debug, Clone)]
pub(crate) struct Conditional {
    pub(super) metric: Metric,
    /// Of the comparison with the other half: μ.
    pub(super) weight: f64,
    pub(super) schedule: Schedule,
    pub(super) wave_iterations: usize,
    pub(super) wave_warmup: usize,
    /// What the half that is not favoured counts in the comparison of halves: α.
    pub(super) discount: f64,
    pub(super) favours: Half,
}

impl Conditional {
    /// Advantages of rows with `rewards`, whose `groups` are positions that belong together, in `iteration`, from 0.
    pub(super) fn advantages(
        &self,
        rewards: &[f64],
        metric: &[f64],
        groups: &[Vec<usize>],
        iteration: usize,
    ) -> Vec<f64> {
        let mu = self.weight_in(iteration, mean(rewards));
        let mut all = rewards.to_vec();
        // Alone, a completion is compared with nothing.
        for group in groups.iter().filter(|it| it.len() > 1) {
            let mut order = group.clone();
            // By rank, so that halves are equal; those that tie stay as they were sampled.
            order.sort_by(|a, b| metric[*a].total_cmp(&metric[*b]));
            let (low, high) = order.split_at(group.len() / 2);
            let of = |half: &[usize]| mean(&half.iter().map(|at| rewards[*at]).collect::<Vec<_>>());
            let (in_low, in_high) = (of(low), of(high));
            for (half, own, other, side) in
                [(low, in_low, in_high, Half::Low), (high, in_high, in_low, Half::High)]
            {
                for at in half {
                    let reward = rewards[*at];
                    // R − α μ' of the half that is favoured, α R − μ' of the other.
                    let inter = if side == self.favours {
                        reward - self.discount * other
                    } else {
                        self.discount * reward - other
                    };
                    all[*at] = mu * inter + (1.0 - mu) * (reward - own);
                }
            }
        }
        all
    }

    fn weight_in(&self, iteration: usize, accuracy: f64) -> f64 {
        match self.schedule {
            Schedule::Fixed => self.weight,
            Schedule::InterFirst => 1.0 - accuracy,
            Schedule::IntraFirst => accuracy,
            Schedule::WaveInterFirst => 1.0 - self.wave(iteration),
            Schedule::WaveIntraFirst => self.wave(iteration),
        }
    }

    fn wave(&self, iteration: usize) -> f64 {
        let (at, warmup) = (iteration as f64, self.wave_warmup as f64);
        if at < warmup {
            return WAVE * at / warmup;
        }
        let done = (at - warmup) / (self.wave_iterations as f64 - warmup).max(1.0);
        if done >= 1.0 {
            return 0.0;
        }
        WAVE * 0.5 * (1.0 + (std::f64::consts::PI * (done * CYCLES).fract()).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::stream::Stream;

    fn plain(weight: f64) -> Conditional {
        Conditional {
            metric: Metric::Tokens,
            weight,
            schedule: Schedule::Fixed,
            wave_iterations: 150,
            wave_warmup: 30,
            discount: 1.0,
            favours: Half::Low,
        }
    }

    fn close(found: &[f64], by_hand: &[f64]) {
        assert_eq!(found.len(), by_hand.len());
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn each_is_held_against_the_other_half_and_against_its_own() {
        // By metric: the second and the fourth are low, in which 1 of 2 is right; in the high half both are.
        let (rewards, metric) = ([1.0, 0.0, 1.0, 1.0], [5.0, 1.0, 9.0, 2.0]);
        let group = [vec![0, 1, 2, 3]];
        let of = |it: Conditional| it.advantages(&rewards, &metric, &group, 0);
        close(&of(plain(1.0)), &[0.5, -1.0, 0.5, 0.0]);
        close(&of(plain(0.0)), &[0.0, -0.5, 0.0, 0.5]);
        close(&of(plain(0.5)), &[0.25, -0.75, 0.25, 0.25]);
        let frugal = |favours| Conditional { discount: 0.9, favours, ..plain(1.0) };
        close(&of(frugal(Half::Low)), &[0.9 - 0.5, -0.9, 0.9 - 0.5, 1.0 - 0.9]);
        close(&of(frugal(Half::High)), &[1.0 - 0.45, -1.0, 1.0 - 0.45, 0.9 - 1.0]);
        // Alone, and of two that tie: the first is low.
        close(&plain(1.0).advantages(&[2.0], &[1.0], &[vec![0]], 0), &[2.0]);
        close(&plain(1.0).advantages(&[1.0, 3.0], &[7.0; 2], &[vec![0, 1]], 0), &[-2.0, 2.0]);
    }

    /// Groups of 16 with metrics and rewards at random; rewards follow the metric where `trend`.
    fn groups(count: usize, trend: bool) -> (Vec<f64>, Vec<f64>, Vec<Vec<usize>>) {
        let (mut rewards, mut metric) = (Vec::new(), Vec::new());
        for draws in Stream::of(4).rows(count * 16) {
            let drawn: Vec<f64> = draws.uniforms(2).collect();
            metric.push((drawn[0] * 8.0).floor());
            let right = if trend { 0.25 + drawn[0] / 2.0 } else { 0.4 };
            rewards.push(f64::from(drawn[1] < right));
        }
        let groups = (0..count).map(|at| (at * 16..at * 16 + 16).collect()).collect();
        (rewards, metric, groups)
    }

    #[test]
    fn half_and_half_is_the_plain_mean_and_the_whole_doubles_what_the_metric_explains() {
        let (rewards, metric, groups) = groups(20_000, true);
        let found = plain(0.5).advantages(&rewards, &metric, &groups, 0);
        let [mut trend, mut whole] = [0.0, 0.0];
        let inter = plain(1.0).advantages(&rewards, &metric, &groups, 0);
        for group in &groups {
            let mean = mean(&group.iter().map(|at| rewards[*at]).collect::<Vec<_>>());
            assert!(group.iter().all(|at| (found[*at] - rewards[*at] + mean).abs() < 1e-9));
            let mut order = group.clone();
            order.sort_by(|a, b| metric[*a].total_cmp(&metric[*b]));
            for (place, at) in order.iter().enumerate() {
                let side = if place < 8 { -1.0 } else { 1.0 };
                trend += side * rewards[*at];
                whole += side * inter[*at];
            }
        }
        assert!((whole / trend - 2.0).abs() < 1e-9, "{}", whole / trend);
    }

    #[test]
    fn what_the_metric_does_not_explain_is_left_as_it_is() {
        // Right or wrong whatever the metric: the gap between right and wrong is not widened.
        let (rewards, metric, groups) = groups(5_000, false);
        let gap = |found: Vec<f64>| {
            let of = |right: f64| {
                let own = found.iter().zip(&rewards).filter(|(_, it)| (**it - right).abs() < 0.5);
                mean(&own.map(|(found, _)| *found).collect::<Vec<_>>())
            };
            of(1.0) - of(0.0)
        };
        let [inter, dr] =
            [1.0, 0.5].map(|mu| gap(plain(mu).advantages(&rewards, &metric, &groups, 0)));
        assert!((0.95..1.15).contains(&(inter / dr)), "{}", inter / dr);
    }

    #[test]
    fn weights_follow_the_mean_reward_or_a_wave() {
        let of = |schedule| Conditional { schedule, ..plain(1.0) };
        close(&[of(Schedule::InterFirst).weight_in(9, 0.25)], &[0.75]);
        close(&[of(Schedule::IntraFirst).weight_in(9, 0.25)], &[0.25]);
        let wave = of(Schedule::WaveIntraFirst);
        // Up over 30, then three times down over 40 each.
        let by_hand = [0.0, 0.3, 0.6, 0.3, 0.6, 0.3, 0.0];
        close(&[0, 15, 30, 50, 70, 90, 150].map(|at| wave.weight_in(at, 0.5)), &by_hand);
        close(&[of(Schedule::WaveInterFirst).weight_in(15, 0.5)], &[0.7]);
    }
}
