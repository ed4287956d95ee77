//! Rows of token ids as the tensors that a decoder takes.
//!
//! A token attends to earlier tokens of its own segment; segment 0 is padding. Plain rows have one
//! segment each, packed rows several, so one rule masks both.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::artifact::ids::Ids;

/// A row of tokens, and which of them a loss is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub(crate) ids: Ids,
    /// Where the loss is: ranges of `ids`, in order and apart.
    learn: Vec<Range<usize>>,
}

impl Example {
    /// A row whose loss is about what follows the first `prompt` tokens.
    pub(crate) fn after_prompt(ids: impl Into<Ids>, prompt: usize) -> Self {
        let ids = ids.into();
        let learn = (prompt < ids.len()).then_some(prompt..ids.len()).into_iter().collect();
        Self { ids, learn }
    }

    /// A row whose loss is about these parts of it, in order and apart.
    pub(crate) fn of_parts(ids: impl Into<Ids>, learn: Vec<Range<usize>>) -> Self {
        Self { ids: ids.into(), learn }
    }

    /// A row whose loss is where `mask` is true.
    #[cfg(test)]
    pub(crate) fn masked(ids: Vec<u32>, mask: &[bool]) -> Self {
        let place = |i: usize| mask[i].then_some(i..i + 1);
        Self { learn: (0..ids.len()).filter_map(place).collect(), ids: ids.into() }
    }

    /// The tokens that the loss is about.
    fn learnt(&self) -> impl Iterator<Item = usize> {
        self.learn.iter().cloned().flatten()
    }

    /// Whether the loss is about each token.
    pub(crate) fn mask(&self) -> impl Iterator<Item = bool> {
        let mut learnt = self.learnt().peekable();
        (0..self.ids.len()).map(move |i| learnt.next_if_eq(&i).is_some())
    }

    /// Places whose next token is to be learnt.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.learnt().filter(|i| *i > 0).map(|i| i - 1)
    }

    /// How many tokens the loss is about, predicted or not.
    pub(crate) fn marked(&self) -> usize {
        self.learn.iter().map(Range::len).sum()
    }

    /// How many tokens are learnt; nothing predicts the first of a row.
    pub(crate) fn labels(&self) -> usize {
        self.marked() - usize::from(self.learn.first().is_some_and(|first| first.start == 0))
    }
}

/// Token ids with their segments and positions, all [rows, width].
pub(crate) struct Batch {
    pub(crate) ids: Tensor,
    pub(crate) segments: Tensor,
    pub(crate) positions: Tensor,
    pub(crate) lie: Lie,
}

/// How tokens lie in their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// One sequence in each, as long as the row.
    Full,
    /// One sequence in each, before all padding: looking back it never sees padding.
    Before,
    Anyhow,
}

impl Lie {
    /// Of sequences of these lengths, one in a row.
    fn of(mut lengths: impl Iterator<Item = usize>, else_: Self) -> Self {
        let first = lengths.next();
        if lengths.all(|length| Some(length) == first) { Self::Full } else { else_ }
    }
}

impl Batch {
    /// One row per sequence; `mask` is 1 where a token is real. Positions count real tokens.
    pub(crate) fn masked(ids: Tensor, mask: &Tensor) -> Self {
        let segments = mask.to_kind(Kind::Int64);
        let positions = (segments.cumsum(1, Kind::Int64) - 1).clamp_min(0);
        Self { ids, segments, positions, lie: Lie::Anyhow }
    }

    /// Pads on the right.
    pub(crate) fn right<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: Device) -> Self {
        let (ids, mask) = padded(rows, pad, false);
        let lie = Lie::of(rows.iter().map(|row| row.as_ref().len()), Lie::Before);
        Self { lie, ..Self::masked(ids.to_device(device), &mask.to_device(device)) }
    }

    /// Pads on the left, for generation.
    pub(crate) fn left<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: Device) -> Self {
        let (ids, mask) = padded(rows, pad, true);
        let lie = Lie::of(rows.iter().map(|row| row.as_ref().len()), Lie::Anyhow);
        Self { lie, ..Self::masked(ids.to_device(device), &mask.to_device(device)) }
    }

    /// Bins of sequences laid end to end; no sequence sees another.
    pub(crate) fn packed<R: AsRef<[u32]>>(bins: &[&[R]], pad: u32, device: Device) -> Self {
        let length = |bin: &&[R]| bin.iter().map(|row| row.as_ref().len()).sum();
        let width = bins.iter().map(length).max().unwrap_or(0);
        let size = [as_i64(bins.len()), as_i64(width)];
        let mut ids = vec![i64::from(pad); bins.len() * width];
        let mut segments = vec![0_i64; bins.len() * width];
        let mut positions = vec![0_i64; bins.len() * width];
        for (b, bin) in bins.iter().enumerate() {
            let mut at = b * width;
            for (r, row) in bin.iter().enumerate() {
                for (i, id) in row.as_ref().iter().enumerate() {
                    ids[at] = i64::from(*id);
                    segments[at] = as_i64(r + 1);
                    positions[at] = as_i64(i);
                    at += 1;
                }
            }
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(size).to_device(device);
        Self {
            ids: tensor(&ids),
            segments: tensor(&segments),
            positions: tensor(&positions),
            lie: Lie::Anyhow,
        }
    }

    pub(crate) fn rows(&self) -> i64 {
        self.ids.size()[0]
    }

    pub(crate) fn width(&self) -> i64 {
        self.ids.size()[1]
    }

    #[cfg(test)]
    /// True at [row, t] where token t+1 continues the segment of token t: [rows, width − 1].
    pub(crate) fn continues(&self) -> Tensor {
        let last = self.width() - 1;
        let (now, next) = (self.segments.narrow(1, 0, last), self.segments.narrow(1, 1, last));
        now.eq_tensor(&next).logical_and(&next.gt(0))
    }
}

/// Where in the flattened [`Batch::packed`] of the same bins the next token is to be learnt, and that
/// token: both `[labels]`.
pub(crate) fn targets(bins: &[&[Example]], device: Device) -> (Tensor, Tensor) {
    let width = bins.iter().map(|bin| bin.iter().map(|row| row.ids.len()).sum()).max().unwrap_or(0);
    let (mut places, mut ids) = (Vec::new(), Vec::new());
    for (b, bin) in bins.iter().enumerate() {
        let mut start = b * width;
        for row in *bin {
            for place in row.places() {
                places.push(as_i64(start + place));
                ids.push(i64::from(row.ids[place + 1]));
            }
            start += row.ids.len();
        }
    }
    (Tensor::from_slice(&places).to_device(device), Tensor::from_slice(&ids).to_device(device))
}

impl AsRef<[u32]> for Example {
    fn as_ref(&self) -> &[u32] {
        &self.ids
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
        let row = |ids: &[u32]| Example::after_prompt(ids.to_vec(), 0);
        let bins = [&[row(&[1, 2]), row(&[3, 4, 5])][..], &[row(&[6, 7, 8])]];
        let batch = Batch::packed(&bins, 0, Device::Cpu);
        assert_eq!(values(&batch.positions), [0, 1, 0, 1, 2, 0, 1, 2, 0, 0]);
        assert_eq!(values(&batch.continues()), [1, 0, 1, 1, 1, 1, 0, 0]);
        let (places, ids) = targets(&bins, Device::Cpu);
        assert_eq!(values(&places), [0, 2, 3, 5, 6]);
        assert_eq!(values(&ids), [2, 4, 5, 7, 8]);
    }

    #[test]
    fn the_completion_is_what_follows_the_prompt() {
        let (a, b) =
            (Example::after_prompt(vec![1, 2, 3, 4], 2), Example::after_prompt(vec![1, 2, 3], 0));
        let (places, _) =
            targets(&[std::slice::from_ref(&a), std::slice::from_ref(&b)], Device::Cpu);
        assert_eq!(values(&places), [1, 2, 4, 5]);
        assert_eq!((a.labels(), b.labels()), (2, 2));
    }
}
