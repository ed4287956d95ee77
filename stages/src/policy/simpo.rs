//! `policy.simpo`: simple preference optimisation (Meng et al. 2024, eq. 6): the mean of log p per token as the implicit reward, which
//! is what generation goes by, and a target margin.

use schemars::JsonSchema;
use serde::Deserialize;
use tch::Tensor;

use super::{
    losses::smoothed,
    pairs::{Imitated, PairLoss, Sides},
    reference_free::{PairTraining, ReferenceFree},
};

/// Simple preference optimisation.
pub(crate) struct Simpo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: PairTraining,
    /// How much a nat per token between the two sides counts.
    #[serde(default = "two")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub(crate) beta: f64,
    /// By how much the chosen side's reward is to be above the other's: the paper's γ.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0))]
    pub(crate) margin: f64,
    /// Bends the reward to `(1 − p̄^−α)/α`, where p̄ is the mean probability of a token (`AlphaPO`); at 0 it is log p̄.
    #[serde(default)]
    pub(crate) alpha: f64,
    /// Share of labels taken to be flipped.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub(crate) label_smoothing: f64,
    /// Weight of imitating the chosen completion besides: the mean over its tokens of −log p (CPO-SimPO).
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub(crate) imitation_weight: f64,
}

fn two() -> f64 {
    2.0
}
fn half() -> f64 {
    0.5
}

impl ReferenceFree for Simpo {
    const KIND: &'static str = "policy.simpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a policy on preferences by the mean of log p per token (SimPO).

There is no reference; the chosen completion's mean is to be above the other's by a margin (Meng et al. 2024). With `alpha` it is \
AlphaPO, with `imitation_weight` CPO-SimPO. Pairs with a text longer than `max_length` are dropped, or cut as `too_long` says, and \
counted.";
    type Params = Params;

    fn parts(params: &Params) -> (&PairTraining, Box<dyn PairLoss + '_>) {
        (&params.training, Box::new(params))
    }
}

impl PairLoss for &Params {
    /// `−log σ(β (r_c − r_l) − γ)` with `r = log p(y) / |y|`, or `AlphaPO`'s `(1 − exp(−α r)) / α` (Gupta et al. 2025).
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
        let bent = |mean: Tensor| {
            if self.alpha == 0.0 { mean } else { (-(mean * -self.alpha).exp() + 1.0) / self.alpha }
        };
        let [chosen, rejected] = sides.per_token().map(bent);
        let losses =
            smoothed(&((&chosen - &rejected) * self.beta - self.margin), self.label_smoothing);
        (losses, [chosen * self.beta, rejected * self.beta])
    }

    fn imitation(&self) -> (f64, Imitated) {
        (self.imitation_weight, Imitated::Completion)
    }

    fn reward(&self, log_prob: f64, _: f64, tokens: f64) -> f64 {
        let mean = log_prob / tokens;
        let bent =
            if self.alpha == 0.0 { mean } else { (1.0 - (-self.alpha * mean).exp()) / self.alpha };
        self.beta * bent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pairs::tests::sides;

    #[test]
    fn a_margin_is_taken_off_the_difference_per_token() {
        let of = |alpha: f64| {
            let given = serde_json::json!({ "beta": 2.0, "margin": 1.0, "alpha": alpha, "learning_rate": 0.1 });
            let params: Params = serde_json::from_value(given).unwrap();
            (&&params).of(&sides([-1.0, 2.0], [-4.0, 4.0])).0.double_value(&[0])
        };
        // −½ and −1 per token: 2 · ½ − 1 = 0, so even odds.
        assert!((of(0.0) - 2_f64.ln()).abs() < 1e-6);
        // (1 − e^{α/2})/α − (1 − e^α)/α with α = 1 is e − √e.
        let x = 2.0 * (1_f64.exp() - 0.5_f64.exp()) - 1.0;
        assert!((of(1.0) - (1.0 + (-x).exp()).ln()).abs() < 1e-5);
    }
}
