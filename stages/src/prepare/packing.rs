//! Short texts put together into rows of nearly one length, so that little of a batch is padding.
//!
//! Texts lie in a table end to end; what is put together are ranges of it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

/// How texts are put together.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// Best fit, longest first; what is too long is cut and its rest lost.
    Bfd,
    /// Best fit, longest first; what is too long goes on in another row.
    #[default]
    BfdSplit,
    /// One after the other, sliced wherever a row is full; a text sees those before it in its row.
    Wrapped,
}

/// Packs texts into rows of at most `size` tokens: the pieces of each, which must not see each other.
pub(crate) fn pack(
    texts: impl Iterator<Item = Range<usize>>,
    size: usize,
    strategy: Strategy,
) -> Vec<Vec<Range<usize>>> {
    let size = size.max(1);
    let pieces = |range: Range<usize>| {
        let end = range.end;
        range.step_by(size).map(move |start| start..end.min(start.saturating_add(size)))
    };
    match strategy {
        Strategy::Wrapped => {
            let whole = texts.reduce(|all, text| all.start..text.end).unwrap_or(0..0);
            pieces(whole).map(|piece| vec![piece]).collect()
        }
        Strategy::Bfd => best_fit(texts.filter_map(|text| pieces(text).next()).collect(), size),
        Strategy::BfdSplit => best_fit(texts.flat_map(pieces).collect(), size),
    }
}

/// Each piece goes into the fullest bin that still takes it; of equally full ones into that which
/// has been so for longest.
fn best_fit(mut pieces: Vec<Range<usize>>, size: usize) -> Vec<Vec<Range<usize>>> {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    let mut bins: Vec<Vec<Range<usize>>> = Vec::new();
    let mut by_space: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for piece in pieces {
        let length = piece.len();
        let fitting = by_space.range(length..).next().map(|(&space, _)| space);
        let (space, bin) = fitting
            .and_then(|space| Some((space, take(&mut by_space, space)?)))
            .unwrap_or_else(|| {
                bins.push(Vec::new());
                (size, bins.len() - 1)
            });
        bins[bin].push(piece);
        by_space.entry(space - length).or_default().push_back(bin);
    }
    bins
}

fn take(by_space: &mut BTreeMap<usize, VecDeque<usize>>, space: usize) -> Option<usize> {
    let bins = by_space.get_mut(&space)?;
    let bin = bins.pop_front();
    if bins.is_empty() {
        by_space.remove(&space);
    }
    bin
}

#[cfg(test)]
impl Strategy {
    pub(super) fn named(name: &str) -> Self {
        serde_json::from_value(name.into()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles;

    /// Texts of these lengths, end to end.
    fn texts(lengths: &[usize]) -> Vec<Range<usize>> {
        let mut end = 0;
        let text = |length: &usize| {
            end += length;
            end - length..end
        };
        lengths.iter().map(text).collect()
    }

    #[test]
    fn best_fit_fills_the_fullest_row_first() {
        let packed = pack(texts(&[3, 5, 4, 1]).into_iter(), 6, Strategy::Bfd);
        let lengths: Vec<Vec<usize>> =
            packed.iter().map(|row| row.iter().map(Range::len).collect()).collect();
        assert_eq!(lengths, [vec![5, 1], vec![4], vec![3]]);
    }

    #[test]
    fn splitting_loses_no_token() {
        for strategy in [Strategy::BfdSplit, Strategy::Wrapped] {
            let packed = pack(texts(&[20, 0, 7]).into_iter(), 6, strategy);
            let mut tokens: Vec<usize> = packed.into_iter().flatten().flatten().collect();
            tokens.sort_unstable();
            assert_eq!(tokens, (0..27).collect::<Vec<_>>());
        }
    }

    #[test]
    fn oracle_packing() {
        let Some(folder) = oracles::folder() else { return };
        let packing = &oracles::json(&folder, "data/prepared.json")["packing"];
        let sequences: Vec<_> =
            packing["sequences"].as_array().unwrap().iter().map(oracles::ids).collect();
        let table = sequences.concat();
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let size = usize::try_from(packing["size"].as_u64().unwrap()).unwrap();
        for (name, expected) in packing["expected"].as_object().unwrap() {
            let packed = pack(texts(&lengths).into_iter(), size, Strategy::named(name));
            let ids = |row: &Vec<Range<usize>>| {
                row.iter().flat_map(|piece| table[piece.clone()].to_vec()).collect::<Vec<u32>>()
            };
            let found: Vec<_> = packed.iter().map(ids).collect();
            let expected = expected.as_array().unwrap();
            let ids: Vec<_> = expected.iter().map(|row| oracles::ids(&row["input_ids"])).collect();
            assert_eq!(found, ids, "{name}");
            for (row, expected) in packed.iter().zip(expected) {
                if expected["seq_lengths"].is_array() {
                    let lengths: Vec<u32> =
                        row.iter().map(|piece| piece.len().try_into().unwrap()).collect();
                    assert_eq!(lengths, oracles::ids(&expected["seq_lengths"]), "{name}");
                }
            }
        }
    }
}
