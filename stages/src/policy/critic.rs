//! The critic: what is still to be expected before each token, by a scalar head over a decoder of its own.

use tch::{Device, Kind, Tensor};

use super::sequences::{by_row, placed};
use crate::{
    error::StageError,
    nn::{batch::Example, batches, decoder::Model, likelihood::learnt},
};

/// How a critic learns.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueLoss {
    /// Its weight beside the policy's loss.
    pub(super) weight: f64,
    /// Values move by this at most from what they were when sampled, as far as the loss sees.
    pub(super) clip: Option<f64>,
}

/// The value of the state before each token that is learnt: [rows, places], 0 where there is none.
pub(crate) fn values(critic: &Model, rows: &[&Example]) -> Tensor {
    let bins: Vec<&[Example]> = rows.iter().map(|row| std::slice::from_ref(*row)).collect();
    let (hidden, _) = learnt(critic, &bins);
    placed(&critic.scored(&hidden), rows)
}

/// The same of any number of rows, without gradients.
pub(super) fn all_values(
    critic: &Model,
    rows: &[Example],
    mut heard: impl FnMut() -> Result<(), StageError>,
) -> Result<Vec<Vec<f64>>, StageError> {
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    batches::each(
        &lengths,
        |_, _| heard(),
        |part| {
            let part: Vec<&Example> = part.iter().map(|row| &rows[*row]).collect();
            by_row(&values(critic, &part).to_device(Device::Cpu), &part)
        },
    )
}

/// `½ max((V − G)², (V_old + clip(V − V_old, ±ε) − G)²)` of every token (Zheng et al. 2023, eq. 15).
pub(crate) fn value_losses(
    values: &Tensor,
    old: &Tensor,
    returns: &Tensor,
    clip: Option<f64>,
) -> Tensor {
    let plain = (values - returns).square();
    let losses = match clip {
        Some(clip) => {
            let near = old + (values - old).clamp(-clip, clip);
            plain.max_other(&(near - returns).square())
        }
        None => plain,
    };
    losses * 0.5
}

/// How many tokens, where `mask` is 1, have a value that the clip holds.
pub(super) fn clipped(values: &Tensor, old: &Tensor, clip: Option<f64>, mask: &Tensor) -> Tensor {
    let far = (values - old).abs().gt(clip.unwrap_or(f64::INFINITY));
    (far.to_kind(Kind::Float) * mask).sum(Kind::Float).detach()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        config::{Config, Head, tests::tiny},
        stream::Stream,
    };

    #[test]
    fn a_value_that_moves_too_far_loses_as_if_it_had_not() {
        let tensor = |values: [f32; 4]| Tensor::from_slice(&values);
        let (values, old) = (tensor([1.0, 1.0, 0.1, 0.0]), tensor([0.0; 4]));
        let returns = tensor([2.0, 0.0, 1.0, 0.0]);
        let of = |clip| -> Vec<f64> {
            Vec::try_from(value_losses(&values, &old, &returns, clip).to_kind(Kind::Double))
                .unwrap()
        };
        let close = |found: Vec<f64>, by_hand: [f64; 4]| {
            assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        };
        close(of(None), [0.5, 0.5, 0.405, 0.0]);
        // Only to 0.2: (0.2 − 2)² is more than (1 − 2)², and (0.2 − 0)² less than 1.
        close(of(Some(0.2)), [1.62, 0.5, 0.405, 0.0]);
        let mask = tensor([1.0, 1.0, 1.0, 1.0]);
        assert!((clipped(&values, &old, Some(0.2), &mask).double_value(&[]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn padding_and_neighbours_change_no_value() {
        let config = Config { head: Head::Score, ..tiny() };
        let model = Model::fresh(config, Stream::of(1), Device::Cpu);
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let together = all_values(&model, &rows, || Ok(())).unwrap();
        assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        for (row, values) in rows.iter().zip(&together) {
            let alone = all_values(&model, std::slice::from_ref(row), || Ok(())).unwrap();
            assert!(alone[0].iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        // The state before a token knows nothing of it.
        let other = Example::after_prompt(vec![2, 3, 9, 1], 1);
        let changed = all_values(&model, &[other], || Ok(())).unwrap();
        assert!((changed[0][1] - together[0][1]).abs() < 1e-6);
        assert!((changed[0][2] - together[0][2]).abs() > 1e-6);
    }
}
