//! What is asked of a model while it writes: tokens that it must not say, and a control token that is put in for it wherever a segment
//! begins.

use tch::{Kind, Tensor};

/// Tokens by their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Steering {
    /// Never said.
    pub(crate) forbidden: Vec<i64>,
    /// Where there are any: nothing else is said.
    pub(crate) only: Vec<i64>,
    /// Said behind each of `ends`, unless the text ends there, and nowhere else.
    pub(crate) control: Option<i64>,
    pub(crate) ends: Vec<i64>,
    /// What ends a text.
    pub(crate) eos: Vec<i64>,
}

impl Steering {
    /// Logits of the next token where `last` was the last one: [rows, vocabulary] and `[rows]`.
    pub(crate) fn apply(&self, logits: &Tensor, last: &Tensor) -> Tensor {
        let without = |ids: &[i64], from: &Tensor| {
            if ids.is_empty() {
                return from.shallow_clone();
            }
            let ids = Tensor::from_slice(ids).to_device(from.device());
            from.index_fill(1, &ids, f64::NEG_INFINITY)
        };
        let free = without(&self.forbidden, logits);
        let free = if self.only.is_empty() {
            free
        } else {
            let ids = Tensor::from_slice(&self.only).to_device(free.device());
            let allowed = free.full_like(f64::NEG_INFINITY).index_fill(1, &ids, 0.0);
            free + allowed
        };
        let Some(control) = self.control else { return free };
        let free = without(&[control], &free);
        let ends = Tensor::from_slice(&self.ends).to_device(logits.device());
        let due = last.unsqueeze(1).eq_tensor(&ends.unsqueeze(0)).any_dim(1, true);
        // A text ends as often as the model lets it; else the next segment begins.
        let over = Tensor::from_slice(&self.eos).to_device(logits.device());
        let ending = free.log_softmax(-1, Kind::Float).index_select(1, &over);
        let goes_on = (-ending.exp().sum_dim_intlist(1, true, Kind::Float)).clamp_min(-1.0).log1p();
        let at = Tensor::from_slice(&[control]).to_device(logits.device());
        let forced = logits.full_like(f64::NEG_INFINITY);
        let forced = forced.index_copy(1, &over, &ending).index_copy(1, &at, &goes_on);
        forced.where_self(&due, &free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_token_is_said_where_a_segment_begins_and_nowhere_else() {
        let logits = Tensor::from_slice(&[1_f32, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]).view([2, 4]);
        let steering =
            Steering { forbidden: vec![3], control: Some(2), ends: vec![0], ..Steering::default() };
        let found = steering.apply(&logits, &Tensor::from_slice(&[1_i64, 0]));
        let found = Vec::<Vec<f64>>::try_from(found.to_kind(tch::Kind::Double)).unwrap();
        let never = f64::NEG_INFINITY;
        assert_eq!(found, [vec![1.0, 2.0, never, never], vec![never, never, 0.0, never]]);
        // Where a segment begins a text may end, as often as the model lets it: of e¹ and e² that is 1 / (1 + e).
        let ends = Steering { eos: vec![0], ..steering };
        let found = ends.apply(&logits, &Tensor::from_slice(&[1_i64, 0]));
        let chance = found.softmax(-1, Kind::Double).double_value(&[1, 0]);
        assert!((chance - 1.0 / (1.0 + 1_f64.exp())).abs() < 1e-6);
        let chance = found.softmax(-1, Kind::Double).double_value(&[1, 2]);
        assert!((chance - 1.0 / (1.0 + (-1_f64).exp())).abs() < 1e-6);
        let forbids = Steering { forbidden: vec![0], ..Steering::default() };
        let found = forbids.apply(&logits, &Tensor::from_slice(&[0_i64, 0]));
        assert!(found.double_value(&[0, 0]).is_infinite() && found.double_value(&[1, 3]) > 3.9);
        let alone = Steering { only: vec![1, 3], forbidden: vec![3], ..Steering::default() };
        let found = alone.apply(&logits, &Tensor::from_slice(&[0_i64, 0]));
        let said: Vec<bool> = Vec::try_from(found.isfinite().flatten(0, -1)).unwrap();
        assert_eq!(said, [false, true, false, false, false, true, false, false]);
    }
}
