//! Rows of token ids as the tensors that a decoder takes.
//!
//! A token attends to earlier tokens of its own segment; segment 0 is padding. Plain rows have one
//! segment each, packed rows several, so one rule masks both.

use tch::{Device, Kind, Tensor};

/// A row with the length of its prompt; what follows the prompt is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) input_ids: Vec<u32>,
    pub(crate) prompt_tokens: usize,
}

impl Example {
    /// Tokens after the prompt that some token predicts.
    pub(crate) fn labels(&self) -> usize {
        self.input_ids.len() - self.prompt_tokens.max(1).min(self.input_ids.len())
    }
}

/// Token ids with their segments and positions, all [rows, width].
pub(crate) struct Batch {
    pub(crate) ids: Tensor,
    pub(crate) segments: Tensor,
    pub(crate) positions: Tensor,
}

impl Batch {
    /// One row per sequence; `mask` is 1 where a token is real. Positions count real tokens.
    pub(crate) fn masked(ids: Tensor, mask: &Tensor) -> Self {
        let segments = mask.to_kind(Kind::Int64);
        let positions = (segments.cumsum(1, Kind::Int64) - 1).clamp_min(0);
        Self { ids, segments, positions }
    }

    /// Pads on the right.
    pub(crate) fn right<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: Device) -> Self {
        let (ids, mask) = padded(rows, pad, false);
        Self::masked(ids.to_device(device), &mask.to_device(device))
    }

    /// Pads on the left, for generation.
    pub(crate) fn left<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: Device) -> Self {
        let (ids, mask) = padded(rows, pad, true);
        Self::masked(ids.to_device(device), &mask.to_device(device))
    }

    /// Bins of sequences laid end to end; no sequence sees another.
    pub(crate) fn packed(bins: &[Vec<&[u32]>], pad: u32, device: Device) -> Self {
        let width = bins.iter().map(|bin| bin.iter().map(|row| row.len()).sum()).max().unwrap_or(0);
        let size = [as_i64(bins.len()), as_i64(width)];
        let mut ids = vec![i64::from(pad); bins.len() * width];
        let mut segments = vec![0_i64; bins.len() * width];
        let mut positions = vec![0_i64; bins.len() * width];
        for (b, bin) in bins.iter().enumerate() {
            let mut at = b * width;
            for (r, row) in bin.iter().enumerate() {
                for (i, id) in row.iter().enumerate() {
                    ids[at] = i64::from(*id);
                    segments[at] = as_i64(r + 1);
                    positions[at] = as_i64(i);
                    at += 1;
                }
            }
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(size).to_device(device);
        Self { ids: tensor(&ids), segments: tensor(&segments), positions: tensor(&positions) }
    }

    pub(crate) fn rows(&self) -> i64 {
        self.ids.size()[0]
    }

    pub(crate) fn width(&self) -> i64 {
        self.ids.size()[1]
    }

    /// True at [row, t] where token t+1 continues the segment of token t: [rows, width − 1].
    pub(crate) fn continues(&self) -> Tensor {
        let last = self.width() - 1;
        let (now, next) = (self.segments.narrow(1, 0, last), self.segments.narrow(1, 1, last));
        now.eq_tensor(&next).logical_and(&next.gt(0))
    }
}

/// 1 at [row, t] where token t+1 belongs to the completion: [rows, width − 1], for right padding.
pub(crate) fn completion_mask(rows: &[&Example], width: usize, device: Device) -> Tensor {
    let mut mask = vec![0_f32; rows.len() * (width - 1)];
    for (r, row) in rows.iter().enumerate() {
        let start = row.prompt_tokens.max(1) - 1;
        let end = row.input_ids.len() - 1;
        if start < end {
            mask[r * (width - 1) + start..r * (width - 1) + end].fill(1.0);
        }
    }
    Tensor::from_slice(&mask).view([as_i64(rows.len()), as_i64(width - 1)]).to_device(device)
}

impl AsRef<[u32]> for Example {
    fn as_ref(&self) -> &[u32] {
        &self.input_ids
    }
}

fn padded<R: AsRef<[u32]>>(rows: &[R], pad: u32, left: bool) -> (Tensor, Tensor) {
    let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let mut ids = vec![i64::from(pad); rows.len() * width];
    let mut mask = vec![0_i64; rows.len() * width];
    for (r, row) in rows.iter().enumerate() {
        let row = row.as_ref();
        let start = r * width + if left { width - row.len() } else { 0 };
        for (i, id) in row.iter().enumerate() {
            ids[start + i] = i64::from(*id);
            mask[start + i] = 1;
        }
    }
    let size = [as_i64(rows.len()), as_i64(width)];
    (Tensor::from_slice(&ids).view(size), Tensor::from_slice(&mask).view(size))
}

/// Lengths here are far below 2^63.
pub(crate) fn as_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.to_kind(Kind::Int64).flatten(0, -1)).unwrap()
    }

    #[test]
    fn left_padding_starts_positions_at_the_first_real_token() {
        let batch = Batch::left(&[vec![5, 6], vec![7, 8, 9]], 0, Device::Cpu);
        assert_eq!(values(&batch.ids), [0, 5, 6, 7, 8, 9]);
        assert_eq!(values(&batch.positions), [0, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn no_token_predicts_across_packed_rows_or_into_padding() {
        let bins = [vec![&[1_u32, 2][..], &[3, 4, 5]], vec![&[6, 7, 8]]];
        let batch = Batch::packed(&bins, 0, Device::Cpu);
        assert_eq!(values(&batch.positions), [0, 1, 0, 1, 2, 0, 1, 2, 0, 0]);
        assert_eq!(values(&batch.continues()), [1, 0, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn the_completion_is_what_follows_the_prompt() {
        let row = |ids: &[u32], prompt_tokens| Example { input_ids: ids.to_vec(), prompt_tokens };
        let (a, b) = (row(&[1, 2, 3, 4], 2), row(&[1, 2, 3], 0));
        let mask = completion_mask(&[&a, &b], 4, Device::Cpu);
        assert_eq!(values(&mask), [0, 1, 1, 1, 1, 0]);
        assert_eq!((a.labels(), b.labels()), (2, 2));
    }
}
