//! What a policy loses on pairs of its own completions (Wu et al. 2023, "Pairwise Proximal Policy Optimization", section 4).
//!
//! Rows 2i and 2i + 1 answer one prompt. All that is known of them is by how much one reward is above the other, so whatever a
//! prompt adds to both falls away.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::surrogate::{Cost, Extent, PolicyLoss, Sampled};
use crate::rules::{param, rule};

/// What is kept from going too far in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clipped {
    /// The ratio of each completion to what sampled it (P3O-V1).
    #[default]
    Each,
    /// The difference of the two log-probabilities (P3O-V2).
    Difference,
}

/// Which loss of pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairwise {
    pub(crate) clipped: Clipped,
    pub(crate) clip: f64,
    /// Ratios that are weights count between this and its inverse.
    pub(crate) most_weight: f64,
    /// What a nat of divergence from the reference costs.
    pub(crate) beta: f64,
}

/// A number for each completion, by pairs: [pairs, 2].
pub(super) fn in_pairs(values: &Tensor) -> Tensor {
    values.contiguous().view([-1, 2])
}

/// The same as the first and the second of every pair.
fn halves(values: &Tensor) -> [Tensor; 2] {
    let pairs = in_pairs(values);
    [pairs.select(1, 0), pairs.select(1, 1)]
}

/// log p of the first completion of every pair less that of the second, of a table of tokens: `[pairs]`.
pub(super) fn gap(log_probs: &Tensor, mask: &Tensor) -> Tensor {
    let [first, second] = halves(&(log_probs * mask).sum_dim_intlist(1, false, Kind::Float));
    first - second
}

/// What parameters must not say where pairs are learnt from.
pub(super) fn whole_pairs() -> Vec<Rule> {
    let mut rules = vec![
        rule(
            "completions are compared two by two, so `samples_per_prompt` is even",
            [param("samples_per_prompt").no_multiple_of(2)],
        ),
        rule(
            "two completions are compared as they were sampled: leave `filter` out, or filter in `policy.grpo`",
            [param("filter").is([
                "best_of_n",
                "best_random",
                "best_worst",
                "random_k",
                "top",
                "top_random",
                "top_bottom",
            ])],
        ),
    ];
    for (name, words) in [
        ("minibatch", "a minibatch has whole pairs, so `minibatch` is even"),
        ("micro_batch", "pairs are in memory whole, so `micro_batch` is even"),
    ] {
        rules.push(rule(words, [param(name).given(), param(name).no_multiple_of(2)]));
    }
    rules
}

impl PolicyLoss for Pairwise {
    fn unit(&self) -> usize {
        2
    }

    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let sum = |table: &Tensor| (table * sampled.mask).sum_dim_intlist(1, false, Kind::Float);
        let [first, second] = halves(&sum(log_probs));
        let [first_old, second_old] = halves(&sum(sampled.old));
        // Of the first the advantage is R₁ − R₂, of the second R₂ − R₁.
        let [mut gain, _] = halves(&sampled.advantages.select(1, 0));
        let apart = |a: &Tensor, b: &Tensor| (a - b).detach();
        if let Some(reference) = sampled.reference {
            let [one, other] = halves(&sum(reference));
            // q: of the policy as it is now, or the pull would stay what it was when it sampled.
            gain -= (apart(&first, &one) - apart(&second, &other)) * self.beta;
        }
        let ratios = [(&first - &first_old).exp(), (&second - &second_old).exp()];
        let weight =
            |ratio: &Tensor| ratio.detach().clamp(1.0 / self.most_weight, self.most_weight);
        let worse = |plain: Tensor, held: Tensor| plain.maximum(&held);
        let held = |ratio: &Tensor| ratio.clamp(1.0 - self.clip, 1.0 + self.clip);
        let (losses, far) = match self.clipped {
            Clipped::Each => {
                let [one, other] = &ratios;
                let (up, down) = (-&gain * weight(other), &gain * weight(one));
                let losses =
                    worse(&up * one, &up * held(one)) + worse(&down * other, &down * held(other));
                let far =
                    [one, other].map(|it| (it - 1.0).abs().gt(self.clip).to_kind(Kind::Float));
                (losses / 2.0, (&far[0] + &far[1]) / 2.0)
            }
            Clipped::Difference => {
                let (now, before) = (&first - &second, &first_old - &second_old);
                let slope = -&gain * weight(&(&ratios[0] * &ratios[1]));
                let moved = &now - &before;
                let near = before + moved.clamp(-self.clip, self.clip);
                let losses = worse(&slope * &now, &slope * near);
                (losses / 2.0, moved.abs().gt(self.clip).to_kind(Kind::Float))
            }
        };
        let pairs = step.rows / 2.0;
        let logs = (log_probs - sampled.old) * sampled.mask;
        let step_kl = ((logs.exp() - 1.0 - logs) * sampled.mask).sum(Kind::Float).detach();
        let metrics = vec![
            ("clipped", far.sum(Kind::Float).detach() / pairs),
            ("step_kl", step_kl / step.tokens),
        ];
        Cost { sum: losses.sum(Kind::Float) / pairs, metrics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss and gradients with respect to the log-probabilities of two completions, of two tokens and of one, that were
    /// −1, −1 and −2 when they were sampled and under the reference.
    fn found(loss: Pairwise, log_probs: [f32; 4], gain: f32) -> (f64, Vec<f64>) {
        let table = |values: &[f32]| Tensor::from_slice(values).view([2, 2]);
        let now = table(&log_probs).set_requires_grad(true);
        let old = table(&[-1.0, -1.0, -2.0, 0.0]);
        let sampled = Sampled {
            old: &old,
            reference: Some(&old),
            advantages: &table(&[gain, gain, -gain, 0.0]),
            mask: &table(&[1.0, 1.0, 1.0, 0.0]),
        };
        let step = Extent { lengths: vec![2.0, 1.0], rows: 2.0, tokens: 3.0, longest: 2.0 };
        let cost = loss.loss(&now, &sampled, &step);
        cost.sum.backward();
        let gradients = now.grad().view([-1]).to_kind(Kind::Double);
        (cost.sum.double_value(&[]), Vec::try_from(gradients).unwrap())
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near && found.len() == expected.len(), "{found:?} {expected:?}");
    }

    const EACH: Pairwise =
        Pairwise { clipped: Clipped::Each, clip: 0.2, most_weight: 10.0, beta: 0.0 };

    #[test]
    fn on_policy_both_are_half_the_difference_of_the_log_probabilities() {
        for clipped in [Clipped::Each, Clipped::Difference] {
            // What stands in a place without a token changes nothing.
            let (_, gradients) = found(Pairwise { clipped, ..EACH }, [-1.0, -1.0, -2.0, -7.0], 3.0);
            // −(R₁ − R₂) ∇(log π(y₁) − log π(y₂)) / 2
            close(&gradients, &[-1.5, -1.5, 1.5, 0.0]);
        }
    }

    #[test]
    fn each_is_clipped_and_weighed_by_the_other() {
        let ln = |x: f32| x.ln();
        // Ratios 1.5, which a gain of 3 must not raise, and 0.9.
        let (loss, gradients) = found(EACH, [-1.0 + ln(1.5), -1.0, -2.0 + ln(0.9), 0.0], 3.0);
        // (−3 · 0.9 · 1.2 + 3 · 1.5 · 0.9) / 2, and the second's gradient 3 · 1.5 · 0.9 / 2.
        close(&[loss], &[1.5 * 0.9 * (1.5 - 1.2)]);
        close(&gradients, &[0.0, 0.0, 3.0 * 1.5 * 0.9 / 2.0, 0.0]);
        // Weights count up to 10 at most.
        let (_, gradients) = found(EACH, [-1.0 + ln(50.0), -1.0, -2.0, 0.0], 3.0);
        close(&gradients, &[0.0, 0.0, 3.0 * 10.0 / 2.0, 0.0]);
    }

    #[test]
    fn a_difference_is_clipped_as_a_whole() {
        let joint = Pairwise { clipped: Clipped::Difference, ..EACH };
        // Both 0.5 likelier: the difference stays, the weight is e.
        let (_, gradients) = found(joint, [-0.5, -1.0, -1.5, 0.0], 2.0);
        let e = std::f64::consts::E;
        close(&gradients, &[-e, -e, e, 0.0]);
        // Further apart than the clip allows.
        let (loss, gradients) = found(joint, [-0.7, -1.0, -2.0, 0.0], 2.0);
        close(&gradients, &[0.0; 4]);
        close(&[loss], &[-2.0 * 0.3_f64.exp() * 0.2 / 2.0]);
    }

    #[test]
    fn divergence_counts_as_it_is_now() {
        let held = Pairwise { beta: 0.5, ..EACH };
        // The first is 0.1 likelier than under the reference: q = 3 − 0.5 · 0.1.
        let (_, gradients) = found(held, [-0.9, -1.0, -2.0, 0.0], 3.0);
        let q = 3.0 - 0.05;
        let ratio = 0.1_f64.exp();
        close(&gradients, &[-q * ratio / 2.0, -q * ratio / 2.0, q * ratio / 2.0, 0.0]);
    }
}
