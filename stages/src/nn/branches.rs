//! Rows that begin alike, so that what they have in common is read once: the two sides of a pair, say, or the completions
//! of one prompt.
//!
//! A stem is a beginning in common, and behind it is one tail for each row. Which rows share a stem hangs on the rows
//! alone, so the same rows give the same bytes.

use tch::{Device, Kind, Tensor};

use super::{
    attention::{behind, hidden},
    batch::{Batch, as_i64},
};

/// Rows are read in branches if these have no more than this share of the tokens, padding included: what they cost besides
/// must pay.
const WORTH: f64 = 0.85;

pub(crate) struct Branches<'a> {
    rows: &'a [&'a [u32]],
    stems: Vec<&'a [u32]>,
    /// Which stem each row has.
    stem_of: Vec<usize>,
}

impl<'a> Branches<'a> {
    /// The rows in branches, where that pays.
    pub(super) fn of(rows: &'a [&'a [u32]]) -> Option<Self> {
        let groups = groups(rows);
        let longest = groups.iter().filter(|it| it.rows.len() > 1).map(|it| it.stem).max()?;
        let mut found = Self { rows, stems: Vec::new(), stem_of: vec![0; rows.len()] };
        for group in &groups {
            // A row by itself is cut where it widens neither stems nor tails.
            let stem = if group.rows.len() > 1 { group.stem } else { group.stem.min(longest) };
            for row in &group.rows {
                found.stem_of[*row] = found.stems.len();
            }
            found.stems.push(&rows[group.rows[0]][..stem]);
        }
        let width = |mut lengths: Vec<usize>| {
            lengths.sort_unstable();
            lengths.last().copied().unwrap_or(0) * lengths.len()
        };
        let stems = width(found.stems.iter().map(|stem| stem.len()).collect());
        let tails = width((0..rows.len()).map(|row| found.tail(row).len()).collect());
        let plain = width(rows.iter().map(|row| row.len()).collect());
        ((stems + tails) as f64 <= WORTH * plain as f64).then_some(found)
    }

    fn tail(&self, row: usize) -> &'a [u32] {
        &self.rows[row][self.stems[self.stem_of[row]].len()..]
    }

    pub(super) fn stems(&self, pad: u32, device: Device) -> Batch {
        Batch::right(&self.stems, pad, device)
    }

    /// What comes behind the stems, at the places where it stands in the rows.
    pub(super) fn tails(&self, pad: u32, device: Device) -> Batch {
        let tails: Vec<&[u32]> = (0..self.rows.len()).map(|row| self.tail(row)).collect();
        let mut batch = Batch::right(&tails, pad, device);
        batch.positions += self.lengths(device).unsqueeze(1);
        batch
    }

    pub(super) fn stem_of(&self, device: Device) -> Tensor {
        let stem_of: Vec<i64> = self.stem_of.iter().map(|stem| as_i64(*stem)).collect();
        Tensor::from_slice(&stem_of).to_device(device)
    }

    /// How long each row's stem is.
    fn lengths(&self, device: Device) -> Tensor {
        let lengths: Vec<i64> =
            self.stem_of.iter().map(|stem| as_i64(self.stems[*stem].len())).collect();
        Tensor::from_slice(&lengths).to_device(device)
    }

    fn widths(&self) -> (usize, usize) {
        let stems = self.stems.iter().map(|stem| stem.len()).max().unwrap_or(0);
        let tails = (0..self.rows.len()).map(|row| self.tail(row).len()).max().unwrap_or(0);
        (stems, tails)
    }

    /// Hides from the tokens of tails the padding of stems and what lies behind them: [rows or 1, 1, tail, stem and tail].
    pub(super) fn mask(&self, device: Device) -> Tensor {
        let (stem, tail) = self.widths();
        let (stem, tail) = (as_i64(stem), as_i64(tail));
        let back = behind(tail, stem + tail, device);
        if self.stems.iter().all(|it| as_i64(it.len()) == stem) {
            return back;
        }
        let places = Tensor::arange(stem + tail, (Kind::Int64, device));
        let padding = places.ge_tensor(&self.lengths(device).unsqueeze(1));
        back + hidden(&padding.logical_and(&places.lt(stem))).unsqueeze(1).unsqueeze(1)
    }

    /// Where places of rows lie among the tokens of all stems and then all tails.
    pub(super) fn places(
        &self,
        places: impl Iterator<Item = (usize, usize)>,
        device: Device,
    ) -> Tensor {
        let (stem, tail) = self.widths();
        let place = |(row, at): (usize, usize)| {
            let of = self.stem_of[row];
            let own = self.stems[of].len();
            as_i64(match at.checked_sub(own) {
                None => of * stem + at,
                Some(behind) => self.stems.len() * stem + row * tail + behind,
            })
        };
        Tensor::from_slice(&places.map(place).collect::<Vec<i64>>()).to_device(device)
    }
}

/// Rows with one stem, and how long that is.
struct Group {
    rows: Vec<usize>,
    stem: usize,
}

/// All rows, those that begin alike together. Every row has a token behind its stem, but where it has only one.
fn groups(rows: &[&[u32]]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows[*row]);
    let mut groups: Vec<Group> = Vec::new();
    for row in order {
        let ids = rows[row];
        let most = ids.len().saturating_sub(1).max(1).min(ids.len());
        if let Some(group) = groups.last_mut() {
            let first = rows[group.rows[0]];
            let common = first[..group.stem].iter().zip(&ids[..most]).take_while(|(a, b)| a == b);
            let common = common.count();
            // Rows that have little in common, a few words of a template say, are better off apart.
            let enough =
                if group.rows.len() > 1 { group.stem * 3 / 4 } else { group.stem.min(most) / 4 };
            if common > 0 && common >= enough {
                group.rows.push(row);
                group.stem = common;
                continue;
            }
        }
        groups.push(Group { rows: vec![row], stem: most });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_completions_of_a_prompt_share_it_in_any_order() {
        let (one, other) = ([1, 2, 3, 4, 5, 6, 7, 8], [9, 2, 3, 4, 5, 6, 7, 8]);
        let row = |stem: &[u32], tail: &[u32]| [stem, tail].concat();
        let rows = [row(&one, &[1]), row(&other, &[2, 3]), row(&one, &[4]), row(&other, &[5])];
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let found = Branches::of(&rows).unwrap();
        assert_eq!(found.stems, [one, other]);
        assert_eq!(found.stem_of, [0, 1, 0, 1]);
        let places: Vec<i64> =
            Vec::try_from(found.places([(2, 7), (2, 8), (1, 0), (1, 9)].into_iter(), Device::Cpu))
                .unwrap();
        assert_eq!(places, [7, 16 + 4, 8, 16 + 2 + 1]);
    }

    #[test]
    fn rows_with_little_in_common_are_read_whole() {
        assert!(Branches::of(&[&[1, 2, 3, 4], &[5, 6, 7, 8]]).is_none());
        assert!(Branches::of(&[&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 6, 7, 8, 3, 3, 3, 3]]).is_none());
        assert!(Branches::of(&[&[1, 2, 3, 4]]).is_none());
        // Of rows that are the same the last token still is each one's own.
        let found = Branches::of(&[&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]]);
        assert_eq!(found.unwrap().stems, [[1, 2, 3, 4]]);
    }
}
