//! `policy.online_dpo`: direct preference optimisation on pairs that the policy samples as it learns (Guo et al. 2024, "Direct Language
//! Model Alignment from Online AI Feedback"), and iterated DPO.
//!
//! Of a pair only which completion has the higher reward counts, as a judge would say it.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    pairwise::{gap, in_pairs, whole_pairs},
    surrogate::{Cost, Extent, PolicyLoss, Sampled},
    training::OnLineTraining,
};
use crate::error::StageError;

/// On-line direct preference optimisation.
pub(crate) struct OnLineDpo;

/// How the log-ratios of a pair become a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PairLoss {
    /// −log σ(βΔ).
    #[default]
    Sigmoid,
    /// (Δ − 1/2β)², of sums of log p.
    Ipo,
}

/// What log-ratios are to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeldTo {
    /// The reference, which stays.
    #[default]
    Reference,
    /// The policy that sampled the pair: every iteration is DPO from where the last one ended.
    Previous,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt; the first is compared with the second, the third with the fourth.
    #[serde(default = "two")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// How strongly the policy is held: more keeps it closer.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    beta: f64,
    /// How the log-ratios of a pair become a loss.
    #[serde(default)]
    loss: PairLoss,
    /// What log-ratios are to.
    #[serde(default)]
    held_to: HeldTo,
}

fn two() -> usize {
    2
}
fn tenth() -> f64 {
    0.1
}

impl CriticFree for OnLineDpo {
    const KIND: &'static str = "policy.online_dpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line from which of two completions a judge prefers (on-line DPO).

Each iteration samples pairs, judges them by the rewards and takes steps of DPO on them; pairs of equal reward teach nothing. With \
`held_to: previous` it is iterated DPO. The curve is that of `policy.grpo`, with `pair_loss`, and `accuracy`: how often the implicit \
reward ranks a pair as it was judged.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        whole_pairs()
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        let loss = Ranked { beta: params.beta, loss: params.loss, held_to: params.held_to };
        let method = params.training.method(Credit::Rows(vec![Term::LeaveOneOut]), loss);
        let samples = params.samples_per_prompt;
        Ok(How { training: &params.training, samples, method, held: true })
    }
}

/// DPO of pairs as they were judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(super) beta: f64,
    pub(super) loss: PairLoss,
    pub(super) held_to: HeldTo,
}

impl PolicyLoss for Ranked {
    fn unit(&self) -> usize {
        2
    }

    /// With Δ the log-ratio of the better completion less that of the other: `−log σ(βΔ)` or `(Δ − 1/2β)²`.
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let held = match (self.held_to, sampled.reference) {
            (HeldTo::Reference, Some(reference)) => reference,
            _ => sampled.old,
        };
        let ratio = gap(log_probs, sampled.mask) - gap(held, sampled.mask);
        let better = in_pairs(&sampled.advantages.select(1, 0)).select(1, 0).sign();
        let delta = ratio * &better;
        let losses = match self.loss {
            PairLoss::Sigmoid => -(&delta * self.beta).log_sigmoid(),
            PairLoss::Ipo => (&delta - 0.5 / self.beta).square(),
        };
        // Nobody said which of two equals is better.
        let counts = better.abs();
        let pairs = step.rows / 2.0;
        let loss = (losses * &counts).sum(Kind::Float) / pairs;
        let right = (delta.detach().gt(0.0).to_kind(Kind::Float) * counts).sum(Kind::Float) / pairs;
        Cost { metrics: vec![("pair_loss", loss.detach()), ("accuracy", right)], sum: loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ranked: Ranked, rewards: f32) -> f64 {
        let table = |it: [f32; 2]| Tensor::from_slice(&it).view([2, 1]);
        let (old, held) = (table([-1.0, -1.0]), table([-2.0, -1.0]));
        let sampled = Sampled {
            old: &old,
            reference: Some(&held),
            advantages: &table([rewards, -rewards]),
            mask: &table([1.0, 1.0]),
        };
        let step = Extent { lengths: vec![1.0; 2], rows: 2.0, tokens: 2.0, longest: 1.0 };
        let now = table([-1.0, -1.0 - 3_f32.ln()]);
        ranked.loss(&now, &sampled, &step).sum.double_value(&[])
    }

    #[test]
    fn the_better_of_two_is_raised_and_equals_teach_nothing() {
        // Against what sampled Δ is ln 3, against the reference ln 3 + 1.
        let ranked = Ranked { beta: 1.0, loss: PairLoss::Sigmoid, held_to: HeldTo::Previous };
        assert!((found(ranked, 0.3) + 0.75_f64.ln()).abs() < 1e-6);
        assert!((found(ranked, -0.3) + 0.25_f64.ln()).abs() < 1e-6);
        assert!(found(ranked, 0.0).abs() < 1e-9);
        let held = Ranked { held_to: HeldTo::Reference, ..ranked };
        let odds = 3.0 * 1_f64.exp();
        assert!((found(held, 0.3) + (odds / (1.0 + odds)).ln()).abs() < 1e-6);
        let ipo = Ranked { loss: PairLoss::Ipo, ..ranked };
        assert!((found(ipo, 0.3) - (3_f64.ln() - 0.5).powi(2)).abs() < 1e-6);
    }
}
