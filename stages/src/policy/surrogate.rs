//! What a policy loses on completions that it, or a policy near it, has sampled: surrogates of the expected advantage.
//!
//! Everything is a table, [rows, places]; `mask` is 1 where a token is the policy's. Ratios are to what sampled the tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The loss of a token, and what it is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SurrogateLoss {
    /// Clipped; the mean of each completion, then over completions (Shao et al. 2024, eq. 3).
    Grpo,
    /// Clipped; the mean over all tokens.
    Dapo,
    /// Clipped; over completions as if all were as long as they may be, so that length is not rewarded (Liu et al. 2025,
    /// "Understanding R1-Zero-Like Training", section 3.2).
    DrGrpo,
    /// The ratio is clipped and weighs the log-probability, so that no token loses its gradient; the mean over all tokens
    /// (`MiniMax` 2025, eq. 4).
    Cispo,
    /// A soft gate in place of the clip; the mean of each completion, then over completions.
    Sapo,
    /// Clipped; the sum of each completion, then the mean over completions, so that a long one counts as much as its tokens
    /// (with `ratio: sequence` it is LUSPO).
    Luspo,
    /// The ratio of the whole completion is bent by a smooth function, largest near 1, and weighs the log-probability; the mean
    /// over all tokens (VESPO).
    Vespo,
}

/// What the ratio is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// A token.
    #[default]
    Token,
    /// A completion: the geometric mean of its tokens' (Zheng et al. 2025, "Group Sequence Policy Optimization", eq. 7).
    Sequence,
    /// A completion: the product of its tokens' (RLOO).
    Product,
}

/// Which surrogate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surrogate {
    pub(crate) loss: SurrogateLoss,
    pub(crate) level: Level,
    /// Ratios count down to 1 less this.
    pub(crate) clip_low: f64,
    /// And up to 1 and this; of `cispo` up to this itself.
    pub(crate) clip_high: f64,
    /// The most that an unclipped ratio counts, if anything.
    pub(crate) most: Option<f64>,
    /// Weight of the KL divergence from the reference.
    pub(crate) beta: f64,
    /// Whether that divergence is weighed by the ratio, and so is of the policy as it is now and not as it sampled.
    pub(crate) corrected: bool,
    /// Completions with an advantage below zero that are by more than this less likely than when they were sampled, in nats a
    /// token, count nothing.
    pub(crate) most_gap: Option<f64>,
}

/// What was sampled, as far as the loss needs it.
pub(crate) struct Sampled<'a> {
    /// log p under what sampled them.
    pub(crate) old: &'a Tensor,
    /// log p under the reference, where there is one.
    pub(crate) reference: Option<&'a Tensor>,
    /// [rows, places], or [rows, 1] where all tokens of a row have the same.
    pub(crate) advantages: &'a Tensor,
    pub(crate) mask: &'a Tensor,
}

/// Temperatures of SAPO's gate for advantages above and below zero (Gao et al. 2025, section 3).
const GATE: [f64; 2] = [1.0, 1.05];

/// Power and decay of VESPO's weight for advantages above and below zero, as TRL has them.
const POWER: [f64; 2] = [2.0, 3.0];
const DECAY: [f64; 2] = [3.0, 2.0];
/// Its log ratios stay within these.
const FAR: f64 = 20.0;
const LEAST_RATIO: f64 = 1e-8;

impl Surrogate {
    /// Ratios of tokens, clipped, and nothing else.
    pub(super) fn clipped(loss: SurrogateLoss, clip_low: f64, clip_high: f64) -> Self {
        Self {
            loss,
            level: Level::Token,
            clip_low,
            clip_high,
            most: None,
            beta: 0.0,
            corrected: false,
            most_gap: None,
        }
    }

    /// The loss of every token, and sums to be shown.
    pub(crate) fn losses(&self, log_probs: &Tensor, sampled: &Sampled<'_>) -> (Tensor, Shown) {
        let Sampled { old, reference, advantages, mask } = *sampled;
        let logs = (log_probs - old) * mask;
        let sum = |x: &Tensor| x.sum_dim_intlist(1, true, Kind::Float);
        let lengths = sum(mask).clamp_min(1.0);
        let of_row = sum(&logs) / &lengths;
        let logs = match self.level {
            Level::Token => logs,
            Level::Sequence => of_row.expand_as(&logs),
            Level::Product => (&of_row * &lengths).expand_as(&logs),
        };
        let ratio = logs.exp();
        let mut losses = match self.loss {
            SurrogateLoss::Grpo
            | SurrogateLoss::Dapo
            | SurrogateLoss::DrGrpo
            | SurrogateLoss::Luspo => {
                let clipped = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
                let own = self.most.map_or(ratio.shallow_clone(), |most| ratio.clamp_max(most));
                -(own * advantages).min_other(&(clipped * advantages))
            }
            SurrogateLoss::Cispo => {
                -(ratio.clamp_max(self.clip_high).detach() * advantages * log_probs)
            }
            SurrogateLoss::Sapo => {
                let heat = either(&advantages.gt(0.0), GATE);
                -((&heat * (&ratio - 1.0)).sigmoid() * 4.0 / &heat * advantages)
            }
            SurrogateLoss::Vespo => {
                let near = (log_probs - old).clamp(-FAR, FAR) * mask;
                let log = sum(&near).clamp(LEAST_RATIO.ln(), FAR).detach();
                let good = advantages.ge(0.0);
                let (power, decay) = (either(&good, POWER), either(&good, DECAY));
                let fading: Tensor = decay * (1.0 - log.exp());
                -((power * log + fading).exp() * advantages * log_probs)
            }
        };
        if let Some(most) = self.most_gap {
            let stale = of_row.lt(-most).logical_and(&advantages.lt(0.0));
            losses *= stale.logical_not().to_kind(Kind::Float);
        }
        let below = ratio.lt(1.0 - self.clip_low).logical_and(&advantages.lt(0.0));
        let above = match self.loss {
            SurrogateLoss::Cispo => ratio.gt(self.clip_high),
            _ => ratio.gt(1.0 + self.clip_high),
        };
        let above = above.logical_and(&advantages.gt(0.0));
        let count = |x: &Tensor| (x.to_kind(Kind::Float) * mask).sum(Kind::Float).detach();
        // E[ratio − 1 − log ratio] is how far the policy has moved from the one that sampled.
        let step_kl = ((&ratio - 1.0 - &logs) * mask).sum(Kind::Float).detach();
        let mut shown =
            Shown { clipped_low: count(&below), clipped_high: count(&above), step_kl, kl: None };
        if let Some(reference) = reference {
            let kl = k3(log_probs, reference);
            shown.kl = Some((&kl * mask).sum(Kind::Float).detach());
            if self.beta > 0.0 {
                losses += if self.corrected { kl * &ratio } else { kl } * self.beta;
            }
        }
        (losses * mask, shown)
    }

    /// What each token of a completion of `length` tokens weighs, in a step of `rows` completions and `tokens` tokens that
    /// may be `longest` each.
    pub(crate) fn weight(&self, length: f64, rows: f64, tokens: f64, longest: f64) -> f64 {
        match self.loss {
            SurrogateLoss::Grpo | SurrogateLoss::Sapo => 1.0 / (rows * length.max(1.0)),
            SurrogateLoss::Dapo | SurrogateLoss::Cispo | SurrogateLoss::Vespo => {
                1.0 / tokens.max(1.0)
            }
            SurrogateLoss::Luspo => 1.0 / rows,
            SurrogateLoss::DrGrpo => 1.0 / (rows * longest),
        }
    }
}

impl PolicyLoss for Surrogate {
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let (losses, shown) = self.losses(log_probs, sampled);
        let weight = |length: &f64| self.weight(*length, step.rows, step.tokens, step.longest);
        let weights = column(step.lengths.iter().map(weight), log_probs.device());
        let mut metrics = vec![
            ("clipped_low", shown.clipped_low / step.tokens),
            ("clipped_high", shown.clipped_high / step.tokens),
            ("step_kl", shown.step_kl / step.tokens),
        ];
        metrics.extend(shown.kl.map(|kl| ("kl", kl / step.tokens)));
        Cost { sum: (losses * weights).sum(Kind::Float), metrics }
    }
}

/// The first number where it holds, and the second elsewhere.
fn either(holds: &Tensor, [yes, no]: [f64; 2]) -> Tensor {
    holds.to_kind(Kind::Float) * (yes - no) + no
}

/// What a policy learns from completions by.
pub(crate) trait PolicyLoss {
    /// How many completions of a prompt are compared with each other, and stay together.
    fn unit(&self) -> usize {
        1
    }

    /// The loss of some rows of a step.
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost;
}

/// How much there is in a step, of which some rows are at hand.
pub(crate) struct Extent {
    /// Tokens of each row at hand.
    pub(crate) lengths: Vec<f64>,
    /// Rows and tokens of the whole step.
    pub(crate) rows: f64,
    pub(crate) tokens: f64,
    /// Tokens that a row may have.
    pub(crate) longest: f64,
}

/// The part of some rows in the loss of a step, and in numbers to be shown.
pub(crate) struct Cost {
    pub(crate) sum: Tensor,
    pub(crate) metrics: Vec<(&'static str, Tensor)>,
}

/// A number for each row: [rows, 1].
#[expect(clippy::cast_possible_truncation, reason = "losses are float32")]
pub(crate) fn column(values: impl Iterator<Item = f64>, device: Device) -> Tensor {
    let values: Vec<f32> = values.map(|it| it as f32).collect();
    Tensor::from_slice(&values).view([-1, 1]).to_device(device)
}

/// Sums over tokens.
pub(crate) struct Shown {
    /// Of those whose ratio is below its bound where that stops the gradient.
    pub(crate) clipped_low: Tensor,
    pub(crate) clipped_high: Tensor,
    /// The divergence of what sampled from the policy as it is.
    pub(crate) step_kl: Tensor,
    /// That of the policy from the reference.
    pub(crate) kl: Option<Tensor>,
}

/// `π_ref/π − log π_ref/π − 1`, which is never negative and has the KL divergence as its mean (Schulman 2020, k3).
fn k3(log_probs: &Tensor, reference: &Tensor) -> Tensor {
    let gap = reference - log_probs;
    gap.exp() - gap - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Surrogate = Surrogate {
        loss: SurrogateLoss::Grpo,
        level: Level::Token,
        clip_low: 0.2,
        clip_high: 0.2,
        most: None,
        beta: 0.0,
        corrected: false,
        most_gap: None,
    };

    /// The losses of one completion of two tokens with such ratios.
    fn losses_of(surrogate: Surrogate, ratios: [f32; 2], advantage: f32) -> Vec<f64> {
        let table = |values: &[f32]| Tensor::from_slice(values).view([1, -1]);
        let sampled = Sampled {
            old: &table(&[0.0, 0.0]),
            reference: None,
            advantages: &table(&[advantage]),
            mask: &table(&[1.0, 1.0]),
        };
        let (found, _) = surrogate.losses(&table(&ratios.map(f32::ln)), &sampled);
        Vec::try_from(found.view([-1]).to_kind(Kind::Double)).unwrap()
    }

    fn close(found: &[f64], expected: [f64; 2]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn ratios_are_clipped_where_that_stops_a_gain() {
        let losses = |surrogate, advantage| losses_of(surrogate, [2.0, 0.5], advantage);
        // −min(2, 1.2) and −min(0.5, 0.8); the other way round of a loss.
        close(&losses(PLAIN, 1.0), [-1.2, -0.5]);
        close(&losses(PLAIN, -1.0), [2.0, 0.8]);
        close(&losses(Surrogate { most: Some(1.5), ..PLAIN }, -1.0), [1.5, 0.8]);
        // The geometric mean of 2 and 1/2 is 1.
        close(&losses(Surrogate { level: Level::Sequence, ..PLAIN }, 1.0), [-1.0, -1.0]);
        let cispo = Surrogate { loss: SurrogateLoss::Cispo, clip_high: 1.5, ..PLAIN };
        close(&losses(cispo, 1.0), [-1.5 * 2_f64.ln(), 0.5 * 2_f64.ln()]);
        // 4 σ(1) and 4 σ(−1/2).
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let sapo = Surrogate { loss: SurrogateLoss::Sapo, ..PLAIN };
        close(&losses(sapo, 1.0), [-4.0 * sigmoid(1.0), -4.0 * sigmoid(-0.5)]);
    }

    #[test]
    fn ratios_of_whole_completions_count_all_tokens() {
        let losses = |surrogate, second, advantage| losses_of(surrogate, [2.0, second], advantage);
        let product = Surrogate { level: Level::Product, ..PLAIN };
        // 2 · 0.55 is 1.1.
        close(&losses(product, 0.55, 1.0), [-1.1, -1.1]);
        // Vespo: exp(3 + 2 log 1.1 − 3 · 1.1), and for losses exp(2 + 3 log 1.1 − 2 · 1.1).
        let vespo = Surrogate { loss: SurrogateLoss::Vespo, ..PLAIN };
        let logs = [2_f64.ln(), 0.55_f64.ln()];
        let bent = 1.1_f64.powi(2) * (-0.3_f64).exp();
        close(&losses(vespo, 0.55, 1.0), logs.map(|log| -bent * log));
        let bent = 1.1_f64.powi(3) * (-0.2_f64).exp();
        close(&losses(vespo, 0.55, -1.0), logs.map(|log| bent * log));
        // 2 · 0.4 is less likely than it was, by ln(0.8)/2 a token.
        let fresh = Surrogate { most_gap: Some(0.1), ..PLAIN };
        close(&losses(fresh, 0.4, -1.0), [0.0, 0.0]);
        close(&losses(fresh, 0.4, 1.0), [-1.2, -0.4]);
        close(&losses(Surrogate { most_gap: Some(0.2), ..PLAIN }, 0.4, -1.0), [2.0, 0.8]);
    }

    #[test]
    fn a_completion_weighs_as_its_loss_says() {
        let weight = |loss| Surrogate { loss, ..PLAIN }.weight(4.0, 2.0, 10.0, 16.0);
        assert!((weight(SurrogateLoss::Grpo) - 1.0 / 8.0).abs() < 1e-12);
        assert!((weight(SurrogateLoss::Dapo) - 1.0 / 10.0).abs() < 1e-12);
        assert!((weight(SurrogateLoss::DrGrpo) - 1.0 / 32.0).abs() < 1e-12);
        assert!((weight(SurrogateLoss::Luspo) - 1.0 / 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_divergence_of_a_policy_from_itself_is_zero_and_else_above() {
        let [a, b] = [[-1.0_f32, -2.0], [-1.5, -1.0]].map(|it| Tensor::from_slice(&it));
        assert!(k3(&a, &a).abs().max().double_value(&[]) < 1e-9);
        assert!(k3(&a, &b).min().double_value(&[]) > 0.0);
    }
}
