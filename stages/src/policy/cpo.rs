//! `policy.cpo`: contrastive preference optimisation (Xu et al. 2024): DPO with an even reference, and imitation of what was
//! chosen, so that no reference need be in memory.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    losses::smoothed,
    pairs::{Imitated, PairLoss, Sides},
    reference_free::{PairTraining, ReferenceFree},
};
use crate::rules::{param, rule};

/// Contrastive preference optimisation.
pub(crate) struct Cpo;

/// How the log-probabilities of a pair become a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CpoLoss {
    /// −log σ(βd), of the difference d of the sums of log p.
    #[default]
    Sigmoid,
    /// A margin: max(0, 1 − βd).
    Hinge,
    /// Pulls the difference per token to 1 / 2β.
    Ipo,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: PairTraining,
    /// How the log-probabilities of a pair become a loss.
    #[serde(default)]
    pub(crate) loss: CpoLoss,
    /// How much a nat between the two sides counts.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub(crate) beta: f64,
    /// Share of labels taken to be flipped, of `sigmoid`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub(crate) label_smoothing: f64,
    /// Weight of imitating the chosen completion: the mean over its tokens of −log p.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(crate) imitation_weight: f64,
}

fn tenth() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}

impl ReferenceFree for Cpo {
    const KIND: &'static str = "policy.cpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a policy on preferences without a reference, and imitate what was chosen (CPO).

The chosen completion is made likelier than the rejected one, and likely (Xu et al. 2024). Pairs with a text longer than \
`max_length` are dropped, or cut as `too_long` says, and counted.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "this `loss` does not heed `label_smoothing`: take it out, or choose `sigmoid`",
            [param("label_smoothing").above(0), param("loss").is(["hinge", "ipo"])],
        )]
    }

    fn parts(params: &Params) -> (&PairTraining, Box<dyn PairLoss + '_>) {
        (&params.training, Box::new(params))
    }
}

impl PairLoss for &Params {
    /// With `d = log p(y_c) − log p(y_l)`: `−(1−ε) log σ(βd) − ε log σ(−βd)`; `max(0, 1 − βd)`; per token `(d − 1/2β)²`.
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
        let [chosen, rejected] = match self.loss {
            CpoLoss::Ipo => sides.per_token(),
            _ => [sides.chosen.shallow_clone(), sides.rejected.shallow_clone()],
        };
        let gap = &chosen - &rejected;
        let losses = match self.loss {
            CpoLoss::Sigmoid => smoothed(&(gap * self.beta), self.label_smoothing),
            CpoLoss::Hinge => (-gap * self.beta + 1.0).relu(),
            CpoLoss::Ipo => (gap - 0.5 / self.beta).square(),
        };
        (losses, [chosen * self.beta, rejected * self.beta])
    }

    fn imitation(&self) -> (f64, Imitated) {
        (self.imitation_weight, Imitated::Completion)
    }

    fn reward(&self, log_prob: f64, _: f64, tokens: f64) -> f64 {
        self.beta * if self.loss == CpoLoss::Ipo { log_prob / tokens } else { log_prob }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pairs::tests::sides;

    #[test]
    fn every_loss_where_the_odds_are_three_to_one() {
        // β = ½ and d = 2 ln 3: βd = ln 3. Per token d = ln 3 − 0.
        let of = |loss: &str| {
            let given = serde_json::json!({ "loss": loss, "beta": 0.5, "learning_rate": 0.1, "label_smoothing": 0.1 });
            let params: Params = serde_json::from_value(given).unwrap();
            (&&params).of(&sides([2.0 * 3_f32.ln(), 2.0], [0.0, 4.0])).0.double_value(&[0])
        };
        let (won, lost) = (0.75_f64.ln(), 0.25_f64.ln());
        for (loss, by_hand) in [
            ("sigmoid", -0.9 * won - 0.1 * lost),
            ("hinge", 0.0),
            ("ipo", (3_f64.ln() - 1.0).powi(2)),
        ] {
            assert!((of(loss) - by_hand).abs() < 1e-5, "{loss}");
        }
    }
}
