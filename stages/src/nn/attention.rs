//! Attention: which keys a query looks at, and what it takes from them.
//!
//! On the CPU libtorch's fused kernel does it, which never holds all weights at once and skips what lies behind a query. Where
//! rows are short, and on a GPU, it is two products and a softmax: a GPU's fused kernels add up gradients in no fixed order.

use tch::{Device, Kind, Tensor};

/// Finite, so that a row whose keys are all hidden gives numbers (which nobody reads) and not NaN.
const HIDDEN: f64 = -1e30;

/// Up to so many keys the products are kept to, which round as the oracles' do: where Adam's first step hangs on the sign of a
/// gradient near zero, other rounding is enough to tip it. Not chosen by speed.
const SHORT: i64 = 32;

/// Which keys queries look at.
pub(super) enum Sight {
    /// All there are.
    Whole,
    /// Those that do not lie behind them; queries and keys are of the same tokens.
    Back,
    /// Those where this is 0 and not far below: [rows or 1, 1, queries, keys].
    Marked(Tensor),
}

impl Sight {
    /// Back along rows of so many tokens.
    pub(super) fn back(width: i64, device: Device) -> Self {
        if fuses(width, device) { Self::Back } else { Self::Marked(behind(width, width, device)) }
    }

    /// Back along rows, within the segment; segment 0 is padding, which none sees: [rows, width].
    pub(super) fn within(segments: &Tensor) -> Self {
        let width = segments.size()[1];
        let other = segments.unsqueeze(2).not_equal_tensor(&segments.unsqueeze(1));
        let unseen = other.logical_or(&segments.le(0).unsqueeze(1)).unsqueeze(1);
        Self::Marked(behind(width, width, segments.device()) + hidden(&unseen))
    }
}

/// [`HIDDEN`] where true, else 0.
pub(super) fn hidden(unseen: &Tensor) -> Tensor {
    unseen.zeros_like().to_kind(Kind::Float).masked_fill(unseen, HIDDEN)
}

/// Hides the keys behind each query, which are the last of the keys: [1, 1, queries, keys].
pub(super) fn behind(queries: i64, keys: i64, device: Device) -> Tensor {
    let all = Tensor::full([queries, keys], HIDDEN, (Kind::Float, device));
    all.triu(keys - queries + 1).view([1, 1, queries, keys])
}

/// softmax(q kᵀ / √d + mask) v, where the query heads of a group share keys and values (Vaswani et al. 2017, eq. 1;
/// Ainslie et al. 2023, section 2.2). All [rows, heads, tokens, d], the outcome [rows · queries, heads · d].
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, sight: &Sight) -> Tensor {
    let of = if fuses(k.size()[2], k.device()) { fused } else { by_products };
    let mixed = of(q, k, v, sight);
    let tokens = q.size()[0] * q.size()[2];
    mixed.transpose(1, 2).reshape([tokens, -1])
}

fn fuses(keys: i64, device: Device) -> bool {
    keys > SHORT && device == Device::Cpu
}

fn fused(q: &Tensor, k: &Tensor, v: &Tensor, sight: &Sight) -> Tensor {
    let mask = if let Sight::Marked(mask) = sight { Some(mask) } else { None };
    let back = matches!(sight, Sight::Back);
    let grouped = q.size()[1] != k.size()[1];
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, back, None, grouped)
}

/// The queries of a group are laid end to end, so keys and values need no copies.
fn by_products(q: &Tensor, k: &Tensor, v: &Tensor, sight: &Sight) -> Tensor {
    let (rows, kv_heads, length, size) = k.size4().expect("keys have four dimensions");
    let width = q.size()[2];
    let q = q.reshape([rows, kv_heads, -1, size]) * (size as f64).sqrt().recip();
    let scores = q.matmul(&k.transpose(-2, -1)).view([rows, kv_heads, -1, width, length]);
    let scores = match sight {
        Sight::Whole => scores,
        Sight::Back => scores + behind(width, length, k.device()).unsqueeze(1),
        Sight::Marked(mask) => scores + mask.unsqueeze(1),
    };
    let weights = scores.softmax(-1, Kind::Float).view([rows, kv_heads, -1, length]);
    weights.matmul(v).reshape([rows, -1, width, size])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{batch::as_i64, stream::Stream};

    /// q of four heads; k and v of two.
    fn drawn() -> [Tensor; 3] {
        let draw = |name: &str, heads| Stream::of(1).named(name).normal(&[2, heads, 5, 8], 1.0);
        [draw("q", 4), draw("k", 2), draw("v", 2)].map(|it| it.set_requires_grad(true))
    }

    /// What comes out, and the gradients of a sum over it.
    fn found(of: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let [q, k, v] = drawn();
        let out = of(&q, &k, &v);
        (&out
            * Tensor::arange(as_i64(out.numel()), (Kind::Float, Device::Cpu)).view_as(&out).sin())
        .sum(Kind::Float)
        .backward();
        vec![out.detach(), q.grad(), k.grad(), v.grad()]
    }

    #[test]
    fn the_fused_kernel_does_what_the_formula_says() {
        // The second row is a token of padding, two of one text and two of another.
        let segments = Tensor::from_slice(&[1_i64, 1, 1, 1, 1, 0, 1, 1, 2, 2]).view([2, 5]);
        let back = || Sight::Back;
        for sight in [Sight::Whole, back(), Sight::within(&segments)] {
            let fused = found(|q, k, v| fused(q, k, v, &sight));
            let plain = found(|q, k, v| by_products(q, k, v, &sight));
            for (fused, plain) in fused.iter().zip(&plain) {
                assert!((fused - plain).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }

    #[test]
    fn a_query_that_sees_nothing_spoils_nothing() {
        let nothing = Sight::Marked(hidden(&Tensor::ones([1, 1, 5, 5], (Kind::Bool, Device::Cpu))));
        for of in [fused, by_products] {
            for tensor in found(|q, k, v| of(q, k, v, &nothing)) {
                assert!(tensor.isfinite().all().int64_value(&[]) == 1);
            }
        }
    }
}
