//! How the two log-ratios of a pair become a loss: the sigmoid of DPO and its relatives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How a pair's log-ratios become a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DpoLoss {
    /// The original: −log σ(βΔ).
    #[default]
    Sigmoid,
    /// Made unbiased for labels that are flipped with probability `label_smoothing`.
    Robust,
    /// A margin: max(0, 1 − βΔ).
    Hinge,
    /// Pulls the gap per token to 1 / 2β, so that sure preferences do not run away.
    Ipo,
    /// Sigmoid on log-ratios per token.
    SigmoidNorm,
    /// Reverse KL divergence from smoothed labels; needs `label_smoothing` above zero.
    ExoPair,
    /// Also keeps the chosen completion itself likely.
    NcaPair,
    /// Pushes both log-ratios to fixed targets.
    SppoHard,
    /// Raises the chosen and lowers the rejected completion.
    ApoZero,
    /// Lowers both, the rejected one further.
    ApoDown,
}

/// Which loss, and its constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DpoSettings {
    pub(crate) loss: DpoLoss,
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
}

/// Log-ratios of policy to reference and completion lengths, all `[pairs]`.
pub(crate) struct Ratios {
    pub(crate) chosen: Tensor,
    pub(crate) rejected: Tensor,
    pub(crate) chosen_length: Tensor,
    pub(crate) rejected_length: Tensor,
}

impl DpoSettings {
    /// With `Δ = r_c − r_l`, the log-ratio of the chosen less that of the rejected completion:
    ///
    /// - sigmoid: `−(1−ε) log σ(βΔ) − ε log σ(−βΔ)` (Rafailov et al. 2023, eq. 7; ε as in Mitchell 2023),
    ///   and `sigmoid_norm` the same per token
    /// - robust: `[−(1−ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε)` (Chowdhury et al. 2024)
    /// - hinge: `max(0, 1 − βΔ)` (Zhao et al. 2023; Liu et al. 2024)
    /// - ipo: `(Δ per token − 1/2β)²` (Azar et al. 2023, eq. 17)
    /// - `exo_pair`: `KL((σ(βΔ), σ(−βΔ)) ‖ (1−ε, ε))` (Ji et al. 2024)
    /// - `nca_pair`: `−log σ(βr_c) − ½ log σ(−βr_c) − ½ log σ(−βr_l)` (Chen et al. 2024)
    /// - `sppo_hard`: `(r_c − 1/2β)² + (r_l + 1/2β)²` (Wu et al. 2024)
    /// - `apo_zero`: `1 − σ(βr_c) + σ(βr_l)`; `apo_down`: `σ(βr_c) + 1 − σ(βΔ)` (D'Oosterlinck et al. 2024)
    pub(crate) fn losses(&self, ratios: &Ratios) -> Tensor {
        let (beta, epsilon) = (self.beta, self.label_smoothing);
        let (r_c, r_l) = (&ratios.chosen, &ratios.rejected);
        let per_token = || r_c / &ratios.chosen_length - r_l / &ratios.rejected_length;
        let x = (r_c - r_l) * beta;
        match self.loss {
            DpoLoss::Sigmoid => smoothed(&x, epsilon),
            DpoLoss::SigmoidNorm => smoothed(&(per_token() * beta), epsilon),
            DpoLoss::Robust => {
                let noise = (-&x).log_sigmoid() * epsilon;
                (noise - x.log_sigmoid() * (1.0 - epsilon)) / (1.0 - 2.0 * epsilon)
            }
            DpoLoss::Hinge => (-x + 1.0).relu(),
            DpoLoss::Ipo => (per_token() - 0.5 / beta).square(),
            DpoLoss::ExoPair => {
                let won = x.sigmoid() * (x.log_sigmoid() - (1.0 - epsilon).ln());
                won + (-&x).sigmoid() * ((-&x).log_sigmoid() - epsilon.ln())
            }
            DpoLoss::NcaPair => {
                let (c, l) = (r_c * beta, r_l * beta);
                -c.log_sigmoid() - ((-&c).log_sigmoid() + (-l).log_sigmoid()) * 0.5
            }
            DpoLoss::SppoHard => (r_c - 0.5 / beta).square() + (r_l + 0.5 / beta).square(),
            DpoLoss::ApoZero => -(r_c * beta).sigmoid() + (r_l * beta).sigmoid() + 1.0,
            DpoLoss::ApoDown => (r_c * beta).sigmoid() - x.sigmoid() + 1.0,
        }
    }
}

fn smoothed(x: &Tensor, epsilon: f64) -> Tensor {
    -x.log_sigmoid() * (1.0 - epsilon) - (-x).log_sigmoid() * epsilon
}

/// Sums over pairs of the implicit rewards β · r, their gap, and how often the chosen one is ahead.
pub(crate) fn metrics(ratios: &Ratios, beta: f64) -> Vec<(&'static str, Tensor)> {
    let sum = |x: &Tensor| x.detach().sum(Kind::Float);
    let (chosen, rejected) = (&ratios.chosen * beta, &ratios.rejected * beta);
    vec![
        ("rewards/chosen", sum(&chosen)),
        ("rewards/rejected", sum(&rejected)),
        ("rewards/margins", sum(&(&chosen - &rejected))),
        ("rewards/accuracies", sum(&chosen.gt_tensor(&rejected).to_kind(Kind::Float))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(loss: DpoLoss, chosen: f32, rejected: f32) -> f64 {
        let settings = DpoSettings { loss, beta: 0.5, label_smoothing: 0.1 };
        let [chosen, rejected, chosen_length, rejected_length] =
            [chosen, rejected, 2.0, 4.0].map(|x| Tensor::from_slice(&[x]));
        let ratios = Ratios { chosen, rejected, chosen_length, rejected_length };
        settings.losses(&ratios).double_value(&[0])
    }

    /// `β = ½`, `r_c = 2 ln 3` over two tokens, `r_l = 0`: `βΔ = ln 3`, so `σ(βΔ) = ¾` and `σ(−βΔ) = ¼`.
    #[test]
    fn every_loss_where_the_odds_are_three_to_one() {
        let (ln, won, lost) = (3_f64.ln(), 0.75_f64.ln(), 0.25_f64.ln());
        // Per token, β · 2 ln 3 / 2 = ln √3.
        let odds = 3_f64.sqrt();
        let (won_root, lost_root) = ((odds / (1.0 + odds)).ln(), (1.0 / (1.0 + odds)).ln());
        for (kind, by_hand) in [
            (DpoLoss::Sigmoid, -0.9 * won - 0.1 * lost),
            (DpoLoss::Robust, (-0.9 * won + 0.1 * lost) / 0.8),
            (DpoLoss::Hinge, 0.0),
            (DpoLoss::Ipo, (ln - 1.0).powi(2)),
            (DpoLoss::SigmoidNorm, -0.9 * won_root - 0.1 * lost_root),
            (DpoLoss::ExoPair, 0.75 * (won - 0.9_f64.ln()) + 0.25 * (lost - 0.1_f64.ln())),
            (DpoLoss::NcaPair, -won - 0.5 * lost - 0.5 * 0.5_f64.ln()),
            (DpoLoss::SppoHard, (2.0 * ln - 1.0).powi(2) + 1.0),
            (DpoLoss::ApoZero, 1.0 - 0.75 + 0.5),
            (DpoLoss::ApoDown, 0.75 + 1.0 - 0.75),
        ] {
            let found = loss(kind, 2.0 * 3_f32.ln(), 0.0);
            assert!((found - by_hand).abs() < 1e-5, "{kind:?}: {found} is not {by_hand}");
        }
        // 1 − ½ (0.5 − 1)
        assert!((loss(DpoLoss::Hinge, 0.5, 1.0) - 1.25).abs() < 1e-6);
    }

    #[test]
    fn the_implicit_reward_is_beta_times_the_log_ratio() {
        let pairs = |x: [f32; 2]| Tensor::from_slice(&x);
        let ratios = Ratios {
            chosen: pairs([1.0, -2.0]),
            rejected: pairs([0.0, 3.0]),
            chosen_length: pairs([1.0, 1.0]),
            rejected_length: pairs([1.0, 1.0]),
        };
        let found =
            metrics(&ratios, 0.5).into_iter().map(|(name, sum)| (name, sum.double_value(&[])));
        let by_hand = [
            ("rewards/chosen", -0.5),
            ("rewards/rejected", 1.5),
            ("rewards/margins", -2.0),
            ("rewards/accuracies", 1.0),
        ];
        assert_eq!(found.collect::<Vec<_>>(), by_hand);
    }

    #[test]
    fn loss_is_ln_2_while_policy_equals_reference() {
        for kind in [DpoLoss::Sigmoid, DpoLoss::SigmoidNorm, DpoLoss::Robust] {
            assert!((loss(kind, 0.0, 0.0) - 2_f64.ln()).abs() < 1e-6, "{kind:?}");
        }
        assert!((loss(DpoLoss::Hinge, 0.0, 0.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn ipo_is_zero_where_the_gap_per_token_is_one_over_two_beta() {
        // 4 / 2 − 4 / 4 = 1 = 1 / (2 · 0.5)
        assert!(loss(DpoLoss::Ipo, 4.0, 4.0).abs() < 1e-6);
    }
}
