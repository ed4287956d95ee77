//! From what completions are judged to be worth to the reward of every token: scaled by what was seen so far, and less the
//! divergence from a reference (Zheng et al. 2023, "Secrets of RLHF, Part I", sections 5.2 and 5.3).
//!
//! The reward of the whole completion stands at its last token; in a conversation what a turn was given stands at the turn's.
//! It is scaled before the divergence is taken off, or the pull
//! towards the reference would be scaled with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What rewards are divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scaling {
    /// Nothing.
    #[default]
    None,
    /// The deviation of all rewards so far.
    Running,
    /// The same, after their mean was taken off.
    Normalised,
    /// The deviation of the rewards of single tokens in the iteration, divergence included, where their mean stays as it was
    /// (TRL, and Chang et al. 2024).
    Tokens,
}

/// How the divergence of a token is estimated from its log-probabilities under policy and reference (Schulman 2020).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Estimator {
    /// `log π/π_ref`: right in the mean, and may be negative.
    #[default]
    K1,
    /// Half the square of that: never negative.
    K2,
    /// `π_ref/π − 1 + log π/π_ref`: right in the mean, and never negative.
    K3,
}

impl Estimator {
    pub(crate) fn of(self, policy: f64, reference: f64) -> f64 {
        let gap = policy - reference;
        match self {
            Self::K1 => gap,
            Self::K2 => gap * gap / 2.0,
            Self::K3 => (-gap).exp() - 1.0 + gap,
        }
    }
}

/// Keeps the divergence near `target` (Ziegler et al. 2019, section 2.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// Nats a completion.
    pub(super) kl: f64,
    /// Completions over which the coefficient follows; more make it slower.
    pub(super) horizon: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Shaping {
    pub(super) scaling: Scaling,
    /// Rewards stay within plus and minus this.
    pub(super) clip: Option<f64>,
    pub(super) estimator: Estimator,
    /// What a nat of divergence costs, at first.
    pub(super) kl: f64,
    pub(super) target: Option<Target>,
}

impl Shaping {
    /// Rewards as they are.
    pub(super) const NONE: Self = Self {
        scaling: Scaling::None,
        clip: None,
        estimator: Estimator::K1,
        kl: 0.0,
        target: None,
    };
}

/// Mean and deviation of all numbers so far, merged batch by batch (Chan et al. 1979).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    /// Σ (x − mean)²
    squares: f64,
}

impl Moments {
    pub(super) fn take(&mut self, values: &[f64]) {
        let own = values.len() as f64;
        if values.is_empty() {
            return;
        }
        let mean = values.iter().sum::<f64>() / own;
        let squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
        let (all, gap) = (self.count + own, mean - self.mean);
        self.squares += squares + gap * gap * self.count * own / all;
        self.mean += gap * own / all;
        self.count = all;
    }

    /// Of a sample, with n − 1; 1 where there is nothing to divide by.
    pub(super) fn deviation(&self) -> f64 {
        let found = (self.squares / (self.count - 1.0).max(1.0)).sqrt();
        if found > 0.0 { found } else { 1.0 }
    }
}

/// What a conversation was given before its last turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Early {
    /// The policy's tokens up to the end of the turn.
    pub(super) tokens: usize,
    pub(super) reward: f64,
}

/// What shaping has learnt so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Shaper {
    moments: Moments,
    /// What a nat costs now.
    pub(super) kl: f64,
}

impl Shaper {
    pub(super) fn new(shaping: &Shaping) -> Self {
        Self { moments: Moments::default(), kl: shaping.kl }
    }

    /// The rewards of completions, scaled and clipped; moments take them in first.
    pub(super) fn scaled(&mut self, shaping: &Shaping, rewards: &[f64]) -> Vec<f64> {
        self.moments.take(rewards);
        let by = self.divisor(shaping);
        let mean = match shaping.scaling {
            Scaling::Normalised => self.moments.mean,
            _ => 0.0,
        };
        let scale = |reward: &f64| (reward - mean) / by;
        let clip = |reward: f64| shaping.clip.map_or(reward, |most| reward.clamp(-most, most));
        rewards.iter().map(scale).map(clip).collect()
    }

    /// What rewards are divided by.
    fn divisor(&self, shaping: &Shaping) -> f64 {
        match shaping.scaling {
            Scaling::None | Scaling::Tokens => 1.0,
            Scaling::Running | Scaling::Normalised => self.moments.deviation(),
        }
    }

    /// The rewards of tokens: of each less its divergence, at the last with the completion's. What of it was `earlier`, before
    /// scaling, stands at the end of its turn, and the last has what is left.
    pub(super) fn by_token(
        &self,
        shaping: &Shaping,
        rewards: &[f64],
        earlier: &[Vec<Early>],
        divergences: &[Vec<f64>],
    ) -> Vec<Vec<f64>> {
        let by = self.divisor(shaping);
        let mut all: Vec<Vec<f64>> = Vec::new();
        for (row, (reward, own)) in rewards.iter().zip(divergences).enumerate() {
            let mut tokens: Vec<f64> = own.iter().map(|it| -self.kl * it).collect();
            let mut left = *reward;
            for early in earlier.get(row).into_iter().flatten() {
                let reward = early.reward / by;
                // A turn of no token at the very beginning leaves it to the last.
                if let Some(token) = early.tokens.checked_sub(1).and_then(|at| tokens.get_mut(at)) {
                    *token += reward;
                    left -= reward;
                }
            }
            if let Some(last) = tokens.last_mut() {
                *last += left;
            }
            all.push(tokens);
        }
        if shaping.scaling == Scaling::Tokens {
            scale_tokens(&mut all);
        }
        all
    }

    /// Follows the target with the mean divergence of `rows` completions (Ziegler et al. 2019, eq. 5).
    pub(super) fn follow(&mut self, shaping: &Shaping, kl: f64, rows: usize) {
        if let Some(target) = shaping.target {
            let error = (kl / target.kl - 1.0).clamp(-0.2, 0.2);
            self.kl *= 1.0 + error * rows as f64 / target.horizon;
        }
    }
}

/// Divides the distance of every number from the mean of all by their deviation.
pub(crate) fn scale_tokens(rewards: &mut [Vec<f64>]) {
    let mut moments = Moments::default();
    moments.take(&rewards.concat());
    let (mean, by) = (moments.mean, moments.deviation());
    rewards.iter_mut().flatten().for_each(|reward| *reward = (*reward - mean) / by + mean);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], by_hand: &[f64]) {
        assert_eq!(found.len(), by_hand.len());
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn moments_are_those_of_all_numbers_together() {
        let mut moments = Moments::default();
        for part in [&[1.0, 4.0][..], &[], &[7.0], &[0.0, 2.0, 10.0]] {
            moments.take(part);
        }
        // 1, 4, 7, 0, 2, 10: mean 4, squares 9 + 0 + 9 + 16 + 4 + 36 = 74.
        close(&[moments.mean, moments.deviation()], &[4.0, (74.0_f64 / 5.0).sqrt()]);
        let mut single = Moments::default();
        single.take(&[3.0]);
        close(&[single.deviation()], &[1.0]);
    }

    #[test]
    fn rewards_are_scaled_by_what_was_seen_and_then_clipped() {
        let of = |scaling, clip| {
            let shaping = Shaping { scaling, clip, ..Shaping::NONE };
            let mut shaper = Shaper::new(&shaping);
            shaper.scaled(&shaping, &[0.0, 0.0]);
            shaper.scaled(&shaping, &[3.0, 9.0])
        };
        // 0, 0, 3, 9: mean 3, squares 9 + 9 + 0 + 36 = 54, deviation √18.
        let by = 18_f64.sqrt();
        close(&of(Scaling::None, None), &[3.0, 9.0]);
        close(&of(Scaling::Running, None), &[3.0 / by, 9.0 / by]);
        close(&of(Scaling::Normalised, None), &[0.0, 6.0 / by]);
        close(&of(Scaling::Normalised, Some(0.8)), &[0.0, 0.8]);
    }

    #[test]
    fn a_token_pays_for_its_divergence_and_the_last_has_the_reward() {
        let shaping = Shaping { kl: 0.5, ..Shaping::NONE };
        let shaper = Shaper::new(&shaping);
        let found = shaper.by_token(&shaping, &[2.0, -1.0], &[], &[vec![1.0, 3.0], vec![-0.5]]);
        close(&found.concat(), &[-0.5, 2.0 - 1.5, 0.25 - 1.0]);
        let shaping = Shaping { scaling: Scaling::Tokens, ..shaping };
        let scaled = shaper.by_token(&shaping, &[2.0, -1.0], &[], &[vec![1.0, 3.0], vec![-0.5]]);
        // −0.5, 0.5, −0.75: mean −1/4, squares (1 + 9 + 4) / 16, deviation √(7/16).
        let by = (7.0_f64 / 16.0).sqrt();
        let of = |reward: f64| (reward + 0.25) / by - 0.25;
        close(&scaled.concat(), &[of(-0.5), of(0.5), of(-0.75)]);
    }

    #[test]
    fn what_was_given_earlier_stands_where_it_was_given_and_is_scaled_alike() {
        let shaping = Shaping { scaling: Scaling::Normalised, kl: 0.5, ..Shaping::NONE };
        let mut shaper = Shaper::new(&shaping);
        // 1 and 5: mean 3, deviation √8.
        let worth = shaper.scaled(&shaping, &[1.0, 5.0]);
        let by = 8_f64.sqrt();
        let early = |tokens, reward| Early { tokens, reward };
        let earlier = [vec![early(2, 4.0), early(3, -1.0)], Vec::new()];
        let none = vec![0.0; 4];
        let found = shaper.by_token(&shaping, &worth, &earlier, &[none.clone(), none]);
        close(&found[0], &[0.0, 4.0 / by, -1.0 / by, (-2.0 - 4.0 + 1.0) / by]);
        close(&found[1], &[0.0, 0.0, 0.0, 2.0 / by]);
    }

    #[test]
    fn estimators_of_a_policy_twice_as_sure() {
        let of = |estimator: Estimator| estimator.of(2_f64.ln(), 0.0);
        close(
            &[Estimator::K1, Estimator::K2, Estimator::K3].map(of),
            &[2_f64.ln(), 2_f64.ln().powi(2) / 2.0, 0.5 - 1.0 + 2_f64.ln()],
        );
    }

    #[test]
    fn the_coefficient_follows_its_target_by_a_fifth_at_most() {
        let target = Some(Target { kl: 2.0, horizon: 100.0 });
        let shaping = Shaping { kl: 0.1, target, ..Shaping::NONE };
        let mut shaper = Shaper::new(&shaping);
        shaper.follow(&shaping, 20.0, 50);
        close(&[shaper.kl], &[0.1 * 1.1]);
        shaper.follow(&shaping, 1.8, 50);
        close(&[shaper.kl], &[0.11 * 0.95]);
    }
}
