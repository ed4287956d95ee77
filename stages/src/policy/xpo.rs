//! `policy.xpo`: exploratory preference optimisation (Xie et al. 2024, "Exploratory Preference Optimization").
//!
//! On-line DPO whose pairs are a completion of the policy and one of the reference, with a bonus for making what the reference
//! says less likely: the policy goes where the reference would not have led it.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    online_dpo::{HeldTo, PairLoss, Ranked},
    pairwise::{in_pairs, whole_pairs},
    surrogate::{Cost, Extent, PolicyLoss, Sampled},
    training::OnLineTraining,
};
use crate::error::StageError;

/// Exploratory preference optimisation.
pub(crate) struct Xpo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt: the first, third … are the policy's, the second, fourth … the reference's.
    #[serde(default = "two")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// How strongly the policy is held to the reference: more keeps it closer.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    beta: f64,
    /// What a nat of log-likelihood of the reference's completions costs: more explores further. At 0 it is on-line DPO against
    /// the reference's completions.
    #[serde(default = "little")]
    #[schemars(range(min = 0.0))]
    alpha: f64,
    /// How the log-ratios of a pair become a loss.
    #[serde(default)]
    loss: PairLoss,
}

fn two() -> usize {
    2
}
fn tenth() -> f64 {
    0.1
}
fn little() -> f64 {
    1e-5
}

impl CriticFree for Xpo {
    const KIND: &'static str = "policy.xpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line from pairs of the policy's and the reference's completions, with a bonus for what is new (XPO).

Each iteration samples both sides, judges them by the rewards and takes steps of DPO on them, plus `alpha` times the log-likelihood of \
what the reference said; pairs of equal reward teach nothing else. The curve is that of `policy.grpo`, over the policy's completions alone, with `pair_loss`, \
`accuracy`, `reference_log_prob` and `won`: how often the policy's completion was the better, ties as a half.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        whole_pairs()
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        let loss = Exploring {
            ranked: Ranked { beta: params.beta, loss: params.loss, held_to: HeldTo::Reference },
            alpha: params.alpha,
        };
        let credit = Credit::Rows(vec![Term::LeaveOneOut]);
        let method = Method { reference_answers: true, ..params.training.method(credit, loss) };
        let samples = params.samples_per_prompt;
        Ok(How { training: &params.training, samples, method, held: true })
    }
}

/// Of a pair the first is the policy's, the second the reference's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exploring {
    ranked: Ranked,
    alpha: f64,
}

impl Exploring {
    #[cfg(test)]
    pub(crate) fn of(loss: &str, beta: f64, alpha: f64) -> Self {
        let loss = serde_json::from_value(loss.into()).expect("a loss of pairs");
        Self { ranked: Ranked { beta, loss, held_to: HeldTo::Reference }, alpha }
    }
}

impl PolicyLoss for Exploring {
    fn unit(&self) -> usize {
        2
    }

    /// `DPO(y₊, y₋) + α log π(y')`, where y' is what the reference said (Xie et al. 2024, Algorithm 1).
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let Cost { sum, mut metrics } = self.ranked.loss(log_probs, sampled, step);
        let totals = (log_probs * sampled.mask).sum_dim_intlist(1, false, Kind::Float);
        let pairs = step.rows / 2.0;
        let of_reference = in_pairs(&totals).select(1, 1).sum(Kind::Float) / pairs;
        let ahead = in_pairs(&sampled.advantages.select(1, 0)).select(1, 0).sign();
        metrics.push(("reference_log_prob", of_reference.detach()));
        metrics.push(("won", ((ahead + 1.0) / 2.0).sum(Kind::Float) / pairs));
        Cost { sum: sum + of_reference * self.alpha, metrics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reference_said_costs_its_likelihood() {
        let table = |it: [f32; 2]| Tensor::from_slice(&it).view([2, 1]);
        let now = table([-1.0, -2.0]).set_requires_grad(true);
        let sampled = Sampled {
            old: &table([-1.0, -2.0]),
            reference: Some(&table([-1.0, -2.0])),
            advantages: &table([0.5, -0.5]),
            mask: &table([1.0, 1.0]),
        };
        let step = Extent { lengths: vec![1.0; 2], rows: 2.0, tokens: 2.0, longest: 1.0 };
        let cost = Exploring::of("sigmoid", 0.2, 0.5).loss(&now, &sampled, &step);
        // −log σ(0) − 0.5 · 2.
        assert!((cost.sum.double_value(&[]) - (2_f64.ln() - 1.0)).abs() < 1e-6);
        cost.sum.backward();
        // −β/2 for the better one; for the other β/2 and the bonus.
        let slopes = [0, 1].map(|at| now.grad().double_value(&[at, 0]));
        assert!((slopes[0] + 0.1).abs() < 1e-6 && (slopes[1] - 0.6).abs() < 1e-6, "{slopes:?}");
        let won = |name| cost.metrics.iter().find(|it| it.0 == name).unwrap().1.double_value(&[]);
        assert_eq!((won("won"), won("reference_log_prob")), (1.0, -2.0));
    }
}
