//! From logits to the next token: penalties and filters, then a draw by inverse distribution function.
//!
//! The filters run in the order of transformers: repetition penalty, temperature, top-k, top-p, min-p.

use serde::Serialize;
use tch::{Kind, Tensor};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sampling {
    /// Zero stands for the most likely token.
    pub(crate) temperature: f64,
    /// Zero stands for all.
    pub(crate) top_k: i64,
    pub(crate) top_p: f64,
    pub(crate) min_p: f64,
    pub(crate) repetition_penalty: f64,
}

impl Sampling {
    #[cfg(test)]
    pub(crate) const GREEDY: Self = Self { temperature: 0.0, ..Self::PLAIN };
    /// The model's own distribution.
    #[cfg(test)]
    pub(crate) const PLAIN: Self =
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature <= 0.0
    }

    /// Whether it draws as the model says.
    pub(crate) fn is_plain(&self) -> bool {
        let ones = [self.temperature, self.top_p, self.repetition_penalty];
        ones.iter().all(|it| (it - 1.0).abs() <= f64::EPSILON)
            && self.top_k == 0
            && self.min_p <= 0.0
    }

    /// All filters; `seen` are the ids so far, [rows, any].
    pub(crate) fn filter(&self, logits: &Tensor, seen: &Tensor) -> Tensor {
        let mut logits = logits.shallow_clone();
        if (self.repetition_penalty - 1.0).abs() > f64::EPSILON {
            logits = penalise(&logits, seen, self.repetition_penalty);
        }
        if self.is_greedy() {
            return logits;
        }
        if (self.temperature - 1.0).abs() > f64::EPSILON {
            // Not `/=`, which would spoil the logits themselves.
            logits = logits.g_div_scalar(self.temperature);
        }
        if self.top_k > 0 {
            logits = keep_top_k(&logits, self.top_k);
        }
        if self.top_p < 1.0 {
            logits = keep_top_p(&logits, self.top_p);
        }
        if self.min_p > 0.0 {
            logits = keep_min_p(&logits, self.min_p);
        }
        logits
    }
}

/// Divides positive logits of seen tokens by `penalty` and multiplies negative ones (Keskar et al. 2019,
/// section 4.1, with the sign mended).
pub(crate) fn penalise(logits: &Tensor, seen: &Tensor, penalty: f64) -> Tensor {
    let old = logits.gather(1, seen, false);
    let new = (&old * penalty).where_self(&old.lt(0.0), &(&old / penalty));
    logits.scatter(1, seen, &new)
}

/// Keeps the `k` highest logits, and those equal to the last of them.
pub(crate) fn keep_top_k(logits: &Tensor, k: i64) -> Tensor {
    let k = k.min(logits.size()[1]);
    let (top, _) = logits.topk(k, 1, true, true);
    logits.masked_fill(&logits.lt_tensor(&top.narrow(1, k - 1, 1)), f64::NEG_INFINITY)
}

/// Keeps the smallest set of most likely tokens whose mass reaches `p` (Holtzman et al. 2020, eq. 2).
pub(crate) fn keep_top_p(logits: &Tensor, p: f64) -> Tensor {
    let (sorted, order) = logits.sort_stable(true, 1, false);
    let below = sorted.softmax(1, Kind::Float).cumsum(1, Kind::Float);
    let mut removed = below.le(1.0 - p);
    let last = logits.size()[1] - 1;
    let _ = removed.narrow(1, last, 1).fill_(0);
    removed = removed.scatter(1, &order, &removed);
    logits.masked_fill(&removed, f64::NEG_INFINITY)
}

/// Keeps tokens at least `p` times as likely as the most likely (Nguyen et al. 2024, eq. 2).
pub(crate) fn keep_min_p(logits: &Tensor, p: f64) -> Tensor {
    let likely = logits.softmax(1, Kind::Float);
    let least = likely.amax([1], true) * p;
    logits.masked_fill(&likely.lt_tensor(&least), f64::NEG_INFINITY)
}

/// The token of each row whose stretch of the cumulative distribution holds `uniform`, in [0, 1).
pub(crate) fn draw(logits: &Tensor, uniform: &Tensor) -> Tensor {
    let mass = logits.softmax(1, Kind::Double).cumsum(1, Kind::Double);
    let total = mass.narrow(1, mass.size()[1] - 1, 1);
    // Strictly below the total, so a token without mass is never drawn, not even by rounding.
    let target = uniform.unsqueeze(1) * total;
    target.searchsorted::<Tensor>(&mass, false, true, "right", None).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(probabilities: &[f32]) -> Tensor {
        Tensor::from_slice(probabilities).log().unsqueeze(0)
    }

    fn kept(filtered: &Tensor) -> Vec<bool> {
        Vec::try_from(filtered.isfinite().squeeze_dim(0)).unwrap()
    }

    #[test]
    fn filters_keep_what_their_papers_keep() {
        let x = logits(&[0.5, 0.2, 0.2, 0.1]);
        assert_eq!(kept(&keep_top_k(&x, 1)), [true, false, false, false]);
        assert_eq!(kept(&keep_top_p(&x, 0.45)), [true, false, false, false]);
        assert_eq!(kept(&keep_top_p(&x, 0.85)), [true, true, true, false]);
        assert_eq!(kept(&keep_min_p(&x, 0.3)), [true, true, true, false]);
    }

    #[test]
    fn a_penalty_pushes_seen_tokens_down_whatever_their_sign() {
        let x = Tensor::from_slice(&[2_f32, -2.0, 1.0]).unsqueeze(0);
        let seen = Tensor::from_slice(&[0_i64, 1, 1]).unsqueeze(0);
        assert_eq!(penalise(&x, &seen, 2.0), Tensor::from_slice(&[1_f32, -4.0, 1.0]).unsqueeze(0));
    }

    #[test]
    fn a_draw_follows_the_cumulative_distribution() {
        let x = logits(&[0.25, 0.0, 0.5, 0.25]).repeat([4, 1]);
        let uniform = Tensor::from_slice(&[0.0, 0.24, 0.3, 0.999_999]);
        assert_eq!(Vec::<i64>::try_from(draw(&x, &uniform)).unwrap(), [0, 0, 2, 3]);
    }
}
