//! Log-probabilities of tokens under logits, and divergences between two of those; in float32 over the whole
//! vocabulary.

use tch::{Kind, Tensor};

/// log p of `ids` under logits of one more dimension.
pub(crate) fn of_tokens(logits: &Tensor, ids: &Tensor) -> Tensor {
    let logs = logits.log_softmax(-1, Kind::Float);
    logs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1)
}

/// Σ p (log p − log q): what it costs to take q for p.
pub(crate) fn divergence(p: &Tensor, q: &Tensor) -> Tensor {
    let (p, q) = (p.log_softmax(-1, Kind::Float), q.log_softmax(-1, Kind::Float));
    expected(&p, &(&p - q))
}

/// Σ p x over what has mass: 0 · ∞ is 0 here, as p log p has that limit.
fn expected(log_p: &Tensor, x: &Tensor) -> Tensor {
    let without = log_p.eq(f64::NEG_INFINITY);
    let terms = (log_p.exp() * x).masked_fill(&without, 0.0);
    terms.sum_dim_intlist(-1, false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filtered_out_adds_nothing() {
        let cut = Tensor::from_slice(&[3_f32.ln(), 0.0, f32::NEG_INFINITY]).view([1, 3]);
        let close = |x: Tensor, y: f64| assert!((x.double_value(&[0]) - y).abs() < 1e-6, "{y}");
        close(divergence(&cut, &cut), 0.0);
        let even = cut.zeros_like();
        close(divergence(&cut, &even), 0.75 * 2.25_f64.ln() + 0.25 * 0.75_f64.ln());
        assert!(divergence(&even, &cut).double_value(&[0]).is_infinite());
    }

    #[test]
    fn two_logits_of_odds_three_to_one() {
        let logits = Tensor::from_slice(&[3_f32.ln(), 0.0]).view([1, 1, 2]);
        let ids = Tensor::from_slice(&[1_i64]).view([1, 1]);
        let close = |x: Tensor, y: f64| assert!((x.double_value(&[0, 0]) - y).abs() < 1e-6);
        close(of_tokens(&logits, &ids), 0.25_f64.ln());
        close(divergence(&logits, &logits.zeros_like()), 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln());
    }
}
