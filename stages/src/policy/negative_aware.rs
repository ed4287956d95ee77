//! What a policy loses when right answers are fitted by itself and wrong ones by what it leaves over (Chen et al. 2025, "Bridging
//! Supervised Learning and Reinforcement Learning in Math Reasoning", section 3).
//!
//! The advantage of an answer is r − `r_q`: right or wrong, less the share of right answers to its prompt. So it says both.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::surrogate::{Cost, Extent, PolicyLoss, Sampled};

/// What prompts weigh, `r_q` being the share of right answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weighting {
    /// All the same.
    None,
    /// 1 − `r_q`: on what was just sampled the gradient is that of Dr. GRPO.
    #[default]
    DrGrpo,
    /// √((1 − `r_q`) / `r_q`): on what was just sampled the gradient is that of GRPO.
    Grpo,
}

/// Shares stay away from none and all by this.
const LEAST_SHARE: f64 = 0.02;
/// Log ratios stay below this.
const FAR: f64 = 10.0;

#[derive(Debug, Clone, Copy)]
pub(crate) struct NegativeAware {
    /// ν: what wrong answers weigh.
    pub(crate) negative_weight: f64,
    /// The least that the ratio of what is left over counts.
    pub(crate) least: f64,
    pub(crate) weighting: Weighting,
}

impl PolicyLoss for NegativeAware {
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let Sampled { old, advantages, mask, .. } = *sampled;
        let logs = (log_probs - old) * mask;
        let ratio = logs.clamp_max(FAR).exp();
        let right = advantages.gt(0.0).to_kind(Kind::Float);
        let wrong = advantages.lt(0.0).to_kind(Kind::Float);
        let share = (&right - advantages).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE);
        let weight = match self.weighting {
            Weighting::None => share.ones_like(),
            Weighting::DrGrpo => 1.0 - &share,
            Weighting::Grpo => (share.reciprocal() - 1.0).sqrt(),
        };
        // N_t = (1 − r_q R_t) / (1 − r_q), clipped from below where its gradient stays (straight through).
        let left: Tensor = (1.0 - &share * &ratio) / (1.0 - &share);
        let held = &left + (left.clamp_min(self.least) - &left).detach();
        let losses = -(&weight * (&right * &logs + &wrong * held.log() * self.negative_weight));
        let count = |x: &Tensor| (x.to_kind(Kind::Float) * &wrong * mask).sum(Kind::Float).detach();
        let metrics = vec![
            ("clipped", count(&left.lt(self.least)) / step.tokens),
            ("step_kl", ((&ratio - 1.0 - &logs) * mask).sum(Kind::Float).detach() / step.tokens),
        ];
        Cost { sum: (losses * mask).sum(Kind::Float) / (step.rows * step.longest), metrics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::surrogate::{Level, Surrogate, SurrogateLoss};

    const PLAIN: NegativeAware =
        NegativeAware { negative_weight: 1.0, least: 1.0, weighting: Weighting::None };

    fn column(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).view([-1, 1])
    }

    /// The gradient with respect to the log-probabilities of answers of one token with such ratios and advantages.
    fn gradients(loss: &dyn PolicyLoss, ratios: &[f32], advantages: &[f32]) -> (f64, Vec<f64>) {
        let gaps: Vec<f32> = ratios.iter().map(|it| it.ln()).collect();
        let now = column(&gaps).set_requires_grad(true);
        let sampled = Sampled {
            old: &now.zeros_like(),
            reference: None,
            advantages: &column(advantages),
            mask: &now.ones_like(),
        };
        let rows = ratios.len() as f64;
        let step = Extent { lengths: vec![1.0; ratios.len()], rows, tokens: rows, longest: 1.0 };
        let sum = loss.loss(&now, &sampled, &step).sum;
        sum.backward();
        (sum.double_value(&[]), Vec::try_from(now.grad().view([-1]).to_kind(Kind::Double)).unwrap())
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near && found.len() == expected.len(), "{found:?} {expected:?}");
    }

    #[test]
    fn wrong_answers_are_fitted_by_what_is_left_over() {
        // Half of the answers are right: N is 1, 0.5 and 1.5, and counts at least 1.
        for (ratio, counts) in [(1.0_f32, 1.0_f64), (1.5, 1.0), (0.5, 1.5)] {
            let (loss, gradient) = gradients(&PLAIN, &[ratio], &[-0.5]);
            close(&[loss], &[-counts.ln()]);
            // d log N / d log R = −(r_q / (1 − r_q)) R / max(N, 1).
            close(&gradient, &[f64::from(ratio) / counts]);
        }
        let (loss, gradient) = gradients(&PLAIN, &[0.5], &[0.5]);
        close(&[loss], &[2_f64.ln()]);
        close(&gradient, &[-1.0]);
        let fine = NegativeAware { negative_weight: 0.0, ..PLAIN };
        close(&gradients(&fine, &[0.5], &[-0.5]).1, &[0.0]);
        // All are alike: nothing to learn.
        close(&gradients(&PLAIN, &[0.5], &[0.0]).1, &[0.0]);
    }

    #[test]
    fn on_what_was_just_sampled_the_gradient_is_that_of_grpo() {
        let ones = [1.0_f32; 4];
        // One of four is right.
        let mean = [0.75_f32, -0.25, -0.25, -0.25];
        let surrogate = Surrogate {
            loss: SurrogateLoss::DrGrpo,
            level: Level::Token,
            clip_low: 0.2,
            clip_high: 0.28,
            most: None,
            beta: 0.0,
            corrected: false,
            most_gap: None,
        };
        let own = |weighting| gradients(&NegativeAware { weighting, ..PLAIN }, &ones, &mean).1;
        close(&own(Weighting::DrGrpo), &gradients(&surrogate, &ones, &mean).1);
        // Divided by √(r_q (1 − r_q)).
        let whitened = mean.map(|it| it / (0.25_f32 * 0.75).sqrt());
        close(&own(Weighting::Grpo), &gradients(&surrogate, &ones, &whitened).1);
    }
}
