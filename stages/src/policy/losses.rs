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
    /// Asks of each completion by itself whether it is good.
    BcoPair,
    /// A loss that a search found: the sigmoid's where the gap is small, an exponential where it is large.
    Discopop,
    /// Compares gaps of the policy and of the reference by rank, over all pairs of a step.
    Aot,
    /// Compares chosen and rejected completions by rank, over all pairs of a step.
    AotUnpaired,
}

/// What holds the policy to its reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Divergence {
    /// `KL(π‖π_ref)`, as in DPO.
    #[default]
    ReverseKl,
    /// `KL(π_ref‖π)`.
    ForwardKl,
    /// Jensen and Shannon's.
    Js,
    /// The α-divergence.
    Alpha,
}

impl Divergence {
    /// What takes the place of a log-ratio r: `f'(exp r)`, but for a constant that both sides have (Wang et al. 2024, "Beyond
    /// Reverse KL", table 1).
    fn of(self, ratio: &Tensor, alpha: f64) -> Tensor {
        match self {
            Self::ReverseKl => ratio.shallow_clone(),
            Self::ForwardKl => -(-ratio).exp(),
            Self::Js => ratio.log_sigmoid(),
            Self::Alpha => (ratio * (alpha - 1.0)).exp() / (alpha - 1.0),
        }
    }
}

/// Which loss, and its constants.
#[derive(Debug, Clone)]
pub(crate) struct DpoSettings {
    /// With their weights.
    pub(crate) losses: Vec<(DpoLoss, f64)>,
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
    pub(crate) discopop_tau: f64,
    pub(crate) divergence: Divergence,
    /// Of the α-divergence.
    pub(crate) alpha: f64,
    /// Weight of the mean over tokens of `−log p` of the chosen side.
    pub(crate) imitation_weight: f64,
}

impl DpoSettings {
    /// One loss as its paper has it.
    #[cfg(test)]
    pub(crate) fn of(loss: DpoLoss, beta: f64, label_smoothing: f64) -> Self {
        Self {
            losses: vec![(loss, 1.0)],
            beta,
            label_smoothing,
            discopop_tau: 0.05,
            divergence: Divergence::ReverseKl,
            alpha: 0.5,
            imitation_weight: 0.0,
        }
    }
}

/// Log-ratios of policy to reference and completion lengths, all `[pairs]`.
pub(crate) struct Ratios {
    pub(crate) chosen: Tensor,
    pub(crate) rejected: Tensor,
    /// `log π_ref` of the chosen completion less that of the rejected one.
    pub(crate) reference_gap: Tensor,
    pub(crate) chosen_length: Tensor,
    pub(crate) rejected_length: Tensor,
}

impl DpoSettings {
    /// The weighted sum of all.
    pub(crate) fn losses(&self, ratios: &Ratios) -> Tensor {
        let all = self.losses.iter().map(|(loss, weight)| self.by(*loss, ratios) * *weight);
        all.reduce(|sum, one| sum + one).unwrap_or_else(|| ratios.chosen.zeros_like())
    }

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
    /// - `bco_pair`: `−log σ(βr_c) − log σ(−βr_l)` (Jung et al. 2024, without the shift)
    /// - `discopop`: `−(1−m) log σ(βΔ) + m exp(−βΔ)` with `m = σ(βΔ/τ)` (Lu et al. 2024)
    /// - `aot`: the sigmoid of `β(sort(log π gaps) − sort(log π_ref gaps))`, `aot_unpaired` of `β(sort r_c − sort r_l)` (Melnyk et
    ///   al. 2024)
    fn by(&self, loss: DpoLoss, ratios: &Ratios) -> Tensor {
        let (beta, epsilon) = (self.beta, self.label_smoothing);
        let [r_c, r_l] =
            &[&ratios.chosen, &ratios.rejected].map(|it| self.divergence.of(it, self.alpha));
        let sorted = |x: &Tensor| x.sort(0, false).0;
        let per_token = || r_c / &ratios.chosen_length - r_l / &ratios.rejected_length;
        let x = (r_c - r_l) * beta;
        match loss {
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
            DpoLoss::BcoPair => -(r_c * beta).log_sigmoid() - (-r_l * beta).log_sigmoid(),
            DpoLoss::Discopop => {
                let gate = (&x / self.discopop_tau).sigmoid();
                -(-&gate + 1.0) * x.log_sigmoid() + gate * (-&x).exp()
            }
            DpoLoss::Aot => {
                let gaps = r_c - r_l + &ratios.reference_gap;
                smoothed(&((sorted(&gaps) - sorted(&ratios.reference_gap)) * beta), epsilon)
            }
            DpoLoss::AotUnpaired => smoothed(&((sorted(r_c) - sorted(r_l)) * beta), epsilon),
        }
    }
}

/// `−(1−ε) log σ(x) − ε log σ(−x)`.
pub(super) fn smoothed(x: &Tensor, epsilon: f64) -> Tensor {
    -x.log_sigmoid() * (1.0 - epsilon) - (-x).log_sigmoid() * epsilon
}

/// Sums over pairs of the implicit rewards of both sides, their gap, and how often the chosen one is ahead.
pub(crate) fn metrics([chosen, rejected]: &[Tensor; 2]) -> Vec<(&'static str, Tensor)> {
    let sum = |x: &Tensor| x.detach().sum(Kind::Float);
    vec![
        ("rewards/chosen", sum(chosen)),
        ("rewards/rejected", sum(rejected)),
        ("rewards/margins", sum(&(chosen - rejected))),
        ("rewards/accuracies", sum(&chosen.gt_tensor(rejected).to_kind(Kind::Float))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(chosen: f32, rejected: f32) -> Ratios {
        let [chosen, rejected, chosen_length, rejected_length, reference_gap] =
            [chosen, rejected, 2.0, 4.0, 0.7].map(|x| Tensor::from_slice(&[x]));
        Ratios { chosen, rejected, reference_gap, chosen_length, rejected_length }
    }

    fn loss(loss: DpoLoss, chosen: f32, rejected: f32) -> f64 {
        DpoSettings::of(loss, 0.5, 0.1).losses(&ratios(chosen, rejected)).double_value(&[0])
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
            (DpoLoss::BcoPair, -won - 0.5_f64.ln()),
            // Of a single pair there is nothing to sort.
            (DpoLoss::Aot, -0.9 * won - 0.1 * lost),
            (DpoLoss::AotUnpaired, -0.9 * won - 0.1 * lost),
        ] {
            let found = loss(kind, 2.0 * 3_f32.ln(), 0.0);
            assert!((found - by_hand).abs() < 1e-5, "{kind:?}: {found} is not {by_hand}");
        }
        // 1 − ½ (0.5 − 1)
        assert!((loss(DpoLoss::Hinge, 0.5, 1.0) - 1.25).abs() < 1e-6);
    }

    #[test]
    fn rewards_are_summed_and_compared() {
        let both = [[0.5_f32, -1.0], [0.0, 1.5]].map(|it| Tensor::from_slice(&it));
        let found = metrics(&both).into_iter().map(|(name, sum)| (name, sum.double_value(&[])));
        let by_hand = [
            ("rewards/chosen", -0.5),
            ("rewards/rejected", 1.5),
            ("rewards/margins", -2.0),
            ("rewards/accuracies", 1.0),
        ];
        assert_eq!(found.collect::<Vec<_>>(), by_hand);
    }

    #[test]
    fn ranks_are_compared_over_all_pairs() {
        let pairs = |x: [f32; 2]| Tensor::from_slice(&x);
        let ratios = Ratios {
            chosen: pairs([4.0, 0.0]),
            rejected: pairs([0.0, 2.0]),
            reference_gap: pairs([-3.0, 5.0]),
            chosen_length: pairs([1.0, 1.0]),
            rejected_length: pairs([1.0, 1.0]),
        };
        let of = |loss| {
            let losses = DpoSettings::of(loss, 1.0, 0.0).losses(&ratios);
            Vec::<f64>::try_from(losses.to_kind(Kind::Double)).unwrap()
        };
        let cost = |x: f64| (1.0 + (-x).exp()).ln();
        let close = |found: &[f64], by_hand: &[f64]| {
            assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        };
        // Sorted 0, 4 against 0, 2.
        close(&of(DpoLoss::AotUnpaired), &[cost(0.0), cost(2.0)]);
        // Gaps of the policy 4 − 3 and −2 + 5, of the reference −3 and 5.
        close(&of(DpoLoss::Aot), &[cost(1.0 + 3.0), cost(3.0 - 5.0)]);
    }

    #[test]
    fn losses_are_mixed_and_divergences_bend_ratios() {
        let with = |change: &dyn Fn(&mut DpoSettings)| {
            let mut settings = DpoSettings::of(DpoLoss::Sigmoid, 1.0, 0.0);
            change(&mut settings);
            settings.losses(&ratios(2_f32.ln(), 0.0)).double_value(&[0])
        };
        let cost = |x: f64| (1.0 + (-x).exp()).ln();
        let mixed = with(&|it| it.losses = vec![(DpoLoss::Sigmoid, 0.8), (DpoLoss::Hinge, 0.5)]);
        assert!((mixed - 0.8 * cost(2_f64.ln()) - 0.5 * (1.0 - 2_f64.ln())).abs() < 1e-6);
        // exp r is 2 and 1: −½ and −1; ln ⅔ and ln ½; with α = ½ −2/√2 and −2.
        for (divergence, gap) in [
            (Divergence::ForwardKl, 0.5),
            (Divergence::Js, (4.0_f64 / 3.0).ln()),
            (Divergence::Alpha, 2.0 - 2.0 / 2_f64.sqrt()),
        ] {
            let found = with(&|it| it.divergence = divergence);
            assert!((found - cost(gap)).abs() < 1e-6, "{divergence:?}");
        }
    }

    #[test]
    fn the_gate_of_discopop_is_even_at_even_odds() {
        // m = ½: ½ ln 2 + ½.
        assert!((loss(DpoLoss::Discopop, 1.0, 1.0) - 0.5 * 2_f64.ln() - 0.5).abs() < 1e-6);
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
