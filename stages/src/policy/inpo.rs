//! `policy.inpo`: iterative Nash policy optimisation (Zhang et al. 2025, "Iterative Nash Policy Optimization").
//!
//! The policy plays itself by mirror descent: each iteration it samples pairs, and fits a squared loss whose minimiser is the next
//! step, so that nobody need know how often a completion beats the whole policy. Its last iterate nears the policy that none beats.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    pairwise::{gap, in_pairs, whole_pairs},
    surrogate::{Cost, Extent, PolicyLoss, Sampled},
    training::OnLineTraining,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Iterative Nash policy optimisation.
pub(crate) struct Inpo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt. Each is judged against all others, and the first is fitted together with the second, the third with
    /// the fourth.
    #[serde(default = "two")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// What a nat of divergence from the reference costs in the game; 0 is self-play without an anchor.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    tau: f64,
    /// The inverse of how far an iteration goes. Where preferences go in circles it must be large enough, or the policy goes in
    /// circles, too.
    #[serde(default = "three_tenths")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    eta: f64,
}

fn two() -> usize {
    2
}
fn tenth() -> f64 {
    0.1
}
fn three_tenths() -> f64 {
    0.3
}

impl CriticFree for Inpo {
    const KIND: &'static str = "policy.inpo";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line the policy that no other is preferred to, from pairs of its own completions (INPO).

The reward is how often a completion is preferred to the others of its prompt: `rewards: { win: { from: preference_model } }`. An \
iteration fits a squared loss to its pairs (Zhang et al. 2025), `epochs` times. With `tau` as \
large as `eta` it is IPO on pairs of its own, with `tau: 0` self-play without an anchor. The curve is that of `policy.grpo`, with \
`pair_loss`, and `accuracy`: how often the policy ranks a pair as it was judged.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        let mut rules = whole_pairs();
        rules.push(rule(
            "`tau` is above `eta`, so a step would go beyond the reference: raise `eta`",
            [param("tau").above("eta")],
        ));
        rules
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        if !params.training.rewards.is_against_others() {
            return Err(StageError::refused(
                "INPO learns from how often completions are preferred to each other: `rewards` has one, `from: preference_model` or \
                 `true_preference`, `against: others`",
            ));
        }
        let loss = Fit {
            tau: params.tau,
            eta: params.eta,
            others: (params.samples_per_prompt - 1) as f64,
        };
        let method = params.training.method(Credit::Rows(vec![Term::LeaveOneOut]), loss);
        let samples = params.samples_per_prompt;
        Ok(How { training: &params.training, samples, method, held: true })
    }
}

/// The squared loss of pairs.
#[derive(Debug, Clone, Copy)]
struct Fit {
    tau: f64,
    eta: f64,
    /// How many each completion is judged against.
    others: f64,
}

impl PolicyLoss for Fit {
    fn unit(&self) -> usize {
        2
    }

    /// `(h − c (w₁ − w₂) / η)²`, where w is how often a completion is preferred to the n − 1 others and `c = (n − 1)/n`: of a pair by
    /// itself `(P(y₁ ≻ y₂) − ½) / η`, and in the mean over all that may have been sampled `(P(y₁ ≻ π_t) − P(y₂ ≻ π_t)) / η` whatever n
    /// is, as y₁ and y₂ are among each other's opponents. `h = log π(y₁)/π(y₂) − τ/η log μ(y₁)/μ(y₂) − (1 − τ/η) log π_t(y₁)/π_t(y₂)`, where `π_t` is
    /// what sampled. Its minimiser is the mirror step `∝ μ^(τ/η) π_t^(1−τ/η) exp(P(· ≻ π_t)/η)`.
    fn loss(&self, log_probs: &Tensor, sampled: &Sampled<'_>, step: &Extent) -> Cost {
        let pull = self.tau / self.eta;
        let own = gap(log_probs, sampled.mask);
        let mut h = &own - gap(sampled.old, sampled.mask) * (1.0 - pull);
        if let Some(reference) = sampled.reference {
            h -= gap(reference, sampled.mask) * pull;
        }
        // Of the first the advantage is w₁ − w₂.
        let ahead = in_pairs(&sampled.advantages.select(1, 0)).select(1, 0);
        let share = self.others / (self.others + 1.0);
        let losses = (h - &ahead * (share / self.eta)).square();
        let right = ((own.detach() * ahead).gt(0.0)).to_kind(Kind::Float);
        let pairs = step.rows / 2.0;
        let loss = losses.sum(Kind::Float) / pairs;
        let metrics =
            vec![("pair_loss", loss.detach()), ("accuracy", right.sum(Kind::Float) / pairs)];
        Cost { sum: loss, metrics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss of one pair of single tokens, and the gradient of the first's log-probability.
    fn found(fit: Fit, [now, old, held]: [[f32; 2]; 3], ahead: f32) -> (f64, f64) {
        let table = |it: [f32; 2]| Tensor::from_slice(&it).view([2, 1]);
        let now = table(now).set_requires_grad(true);
        let (old, held) = (table(old), table(held));
        let sampled = Sampled {
            old: &old,
            reference: Some(&held),
            advantages: &table([ahead, -ahead]),
            mask: &table([1.0, 1.0]),
        };
        let step = Extent { lengths: vec![1.0; 2], rows: 2.0, tokens: 2.0, longest: 1.0 };
        let cost = fit.loss(&now, &sampled, &step);
        cost.sum.backward();
        (cost.sum.double_value(&[]), now.grad().double_value(&[0, 0]))
    }

    /// Over all fours that a policy may sample, the target of the first two is what the step asks of them.
    #[test]
    fn the_target_is_right_on_average_however_many_each_is_judged_against() {
        let policy = [0.2, 0.3, 0.5];
        let preference = [[0.5, 0.9, 0.3], [0.1, 0.5, 0.6], [0.7, 0.4, 0.5]];
        let won = |i: usize| -> f64 { (0..3).map(|j| policy[j] * preference[i][j]).sum() };
        // The best f of f(y₁) − f(y₂) is the mean over y₂ and the others, less that over y₁.
        let mut best = [0.0; 3];
        for at in 0..81_usize {
            let four = [at % 3, at / 3 % 3, at / 9 % 3, at / 27];
            let wins = |i: usize| -> f64 {
                (0..4).filter(|j| *j != i).map(|j| preference[four[i]][four[j]]).sum::<f64>() / 3.0
            };
            let chance: f64 = four[1..].iter().map(|it| policy[*it]).product();
            best[four[0]] += chance * 0.75 * (wins(0) - wins(1));
        }
        for (one, other) in [(0, 1), (1, 2)] {
            let by_hand = won(one) - won(other);
            assert!((best[one] - best[other] - by_hand).abs() < 1e-12, "{best:?}");
        }
    }

    #[test]
    fn a_pair_is_fitted_to_how_much_more_often_it_wins() {
        // τ/η = ⅓. h = 2 − ⅓ · 3 − ⅔ · 1.5 = 0; the first wins three times in four: (¾ − ½) / 0.3.
        let fit = Fit { tau: 0.1, eta: 0.3, others: 1.0 };
        let target = 0.25 / 0.3;
        let (loss, slope) = found(fit, [[-1.0, -3.0], [-1.0, -2.5], [-1.0, -4.0]], 0.5);
        assert!((loss - target * target).abs() < 1e-5 && (slope + 2.0 * target).abs() < 1e-5);
        // Without an anchor and at the mirror step itself nothing is lost.
        let fit = Fit { tau: 0.0, eta: 0.5, others: 1.0 };
        let (loss, slope) = found(fit, [[-1.0, -2.0], [-1.5, -1.5], [-9.0, -1.0]], 1.0);
        assert!(loss < 1e-9 && slope.abs() < 1e-5);
    }
}
