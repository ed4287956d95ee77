//! `policy.orpo`: odds-ratio preference optimisation (Hong et al. 2024, eq. 6): fine-tuning on what was chosen, with a penalty that
//! raises its odds above those of what was rejected. There is neither a reference nor a stage of imitation before.

use schemars::JsonSchema;
use serde::Deserialize;
use tch::Tensor;

use super::{
    pairs::{Imitated, PairLoss, Sides},
    reference_free::{PairTraining, ReferenceFree},
};

/// Odds-ratio preference optimisation.
pub(crate) struct Orpo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: PairTraining,
    /// Weight of the odds' ratio beside imitation: the paper's λ.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    pub(crate) beta: f64,
}

fn tenth() -> f64 {
    0.1
}

impl ReferenceFree for Orpo {
    const KIND: &'static str = "policy.orpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Fine-tune on what was chosen and raise its odds above what was rejected (ORPO).

The loss of imitation is over all tokens of the chosen side, the prompt's too, and odds are of the mean of log p per token, as TRL \
has it (Hong et al. 2024). Pairs with a text longer than `max_length` are dropped, or cut as `too_long` says, and counted.";
    type Params = Params;

    fn parts(params: &Params) -> (&PairTraining, Box<dyn PairLoss + '_>) {
        (&params.training, Box::new(params))
    }
}

impl PairLoss for &Params {
    /// `−β log σ(log o(y_c) − log o(y_l))` with `o = p̄ / (1 − p̄)` and `log p̄ = log p(y) / |y|`.
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
        let [chosen, rejected] = sides.per_token();
        let log_odds = |mean: &Tensor| mean - (-mean.exp()).log1p();
        let ratio = log_odds(&chosen) - log_odds(&rejected);
        (-ratio.log_sigmoid() * self.beta, [chosen * self.beta, rejected * self.beta])
    }

    fn imitation(&self) -> (f64, Imitated) {
        (1.0, Imitated::All)
    }

    fn reward(&self, log_prob: f64, _: f64, tokens: f64) -> f64 {
        self.beta * log_prob / tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pairs::tests::sides;

    #[test]
    fn odds_of_three_to_one_against_even_ones() {
        let given = serde_json::json!({ "beta": 0.5, "learning_rate": 0.1 });
        let params: Params = serde_json::from_value(given).unwrap();
        // Means of ¾ and ½: odds of 3 and 1, so σ(ln 3) = ¾.
        let (chosen, rejected) = ([2.0 * 0.75_f32.ln(), 2.0], [0.5_f32.ln(), 1.0]);
        let (loss, rewards) = (&&params).of(&sides(chosen, rejected));
        assert!((loss.double_value(&[0]) + 0.5 * 0.75_f64.ln()).abs() < 1e-5);
        assert!((rewards[0].double_value(&[0]) - 0.5 * 0.75_f64.ln()).abs() < 1e-6);
    }
}
