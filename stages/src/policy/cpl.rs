//! `policy.cpl`: contrastive preference learning (Hejna et al. 2024, "Contrastive Preference Learning: Learning from Human Feedback
//! without RL"): people prefer what they regret less, and the least regret is that of a likely reply.
//!
//! A reply is a segment whose steps are tokens. With `bias: 1` it is DPO with an even reference.

use schemars::JsonSchema;
use serde::Deserialize;
use tch::Tensor;

use super::{
    pairs::{Imitated, PairLoss, Sides},
    reference_free::{PairTraining, ReferenceFree},
};

/// Contrastive preference learning.
pub(crate) struct Cpl;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: PairTraining,
    /// How much a nat between the two sides counts: the temperature of the regret that people go by.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    alpha: f64,
    /// How much the rejected side counts, the paper's λ. Below 1, of two policies with the same margin that one loses less which is
    /// closer to the data; at 1 what is likely does not count.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0))]
    bias: f64,
    /// Weight of imitating the chosen completion: the mean over its tokens of −log p.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    imitation_weight: f64,
}

fn tenth() -> f64 {
    0.1
}
fn half() -> f64 {
    0.5
}

impl ReferenceFree for Cpl {
    const KIND: &'static str = "policy.cpl";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a policy on preferences as on regret, without a reference (CPL).

A reply's score is `alpha` times the sum of its tokens' log-probabilities, undiscounted as in the authors' code. Start from a policy that \
imitates both sides, as they do. Pairs with a text longer than `max_length` are dropped, or cut as `too_long` says, and counted.";
    type Params = Params;

    fn parts(params: &Params) -> (&PairTraining, Box<dyn PairLoss + '_>) {
        (&params.training, Box::new(params))
    }
}

impl PairLoss for &Params {
    /// `log(1 + exp(λ S(y_l) − S(y_c)))` with `S(y) = α Σ log p`.
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
        let [chosen, rejected] = [&sides.chosen * self.alpha, &sides.rejected * self.alpha];
        let losses = (&rejected * self.bias - &chosen).softplus();
        (losses, [chosen, rejected])
    }

    fn imitation(&self) -> (f64, Imitated) {
        (self.imitation_weight, Imitated::Completion)
    }

    fn reward(&self, log_prob: f64, _: f64, _: f64) -> f64 {
        self.alpha * log_prob
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{cpo, pairs::tests::sides};

    fn loss(bias: f64, chosen: f32, rejected: f32) -> f64 {
        let given = serde_json::json!({ "alpha": 0.5, "bias": bias, "learning_rate": 0.1 });
        let params: Params = serde_json::from_value(given).unwrap();
        (&&params).of(&sides([chosen, 3.0], [rejected, 5.0])).0.double_value(&[0])
    }

    #[test]
    fn the_rejected_side_counts_as_much_as_its_bias() {
        // S = −1 and −4: with λ = ½ the loss is log(1 + e^(−2 + 1)).
        assert!((loss(0.5, -2.0, -8.0) - (-1_f64).exp().ln_1p()).abs() < 1e-6);
        // With the same margin the likelier pair loses less, where it is not the margin alone that counts.
        assert!(loss(0.5, -2.0, -8.0) < loss(0.5, -12.0, -18.0));
        assert!((loss(1.0, -2.0, -8.0) - loss(1.0, -12.0, -18.0)).abs() < 1e-6);
    }

    #[test]
    fn without_bias_it_is_dpo_with_an_even_reference() {
        let given = serde_json::json!({ "beta": 0.5, "learning_rate": 0.1 });
        let dpo: cpo::Params = serde_json::from_value(given).unwrap();
        for (chosen, rejected) in [(-2.0, -8.0), (-7.5, -1.25)] {
            let theirs = (&&dpo).of(&sides([chosen, 3.0], [rejected, 5.0])).0.double_value(&[0]);
            assert!((loss(1.0, chosen, rejected) - theirs).abs() < 1e-6);
        }
    }
}
