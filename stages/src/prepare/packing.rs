//! Short rows put together into rows of nearly one length, so that little of a batch is padding.

use std::collections::{BTreeMap, VecDeque};

use crate::prepare::rows::Labelled;

/// How rows are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// Best fit, longest first; what is too long is cut and its rest lost.
    Bfd,
    /// Best fit, longest first; what is too long goes on in another row.
    BfdSplit,
    /// One after the other, sliced wherever a row is full.
    Wrapped,
}

/// Several rows in one, and the length of each; attention must stay inside them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packed {
    pub(crate) row: Labelled,
    pub(crate) lengths: Vec<usize>,
}

/// Packs rows into rows of at most `size` tokens.
pub(crate) fn pack(rows: &[Labelled], size: usize, strategy: Strategy) -> Vec<Packed> {
    let size = size.max(1);
    match strategy {
        Strategy::Wrapped => wrapped(rows, size),
        Strategy::Bfd => best_fit(rows.iter().map(|row| slice(row, 0, size)).collect(), size),
        Strategy::BfdSplit => {
            let pieces = rows.iter().flat_map(|row| {
                (0..row.ids.len()).step_by(size).map(move |start| slice(row, start, size))
            });
            best_fit(pieces.collect(), size)
        }
    }
}

fn slice(row: &Labelled, start: usize, size: usize) -> Labelled {
    let end = (start + size).min(row.ids.len());
    Labelled { ids: row.ids[start..end].to_vec(), labels: row.labels[start..end].to_vec() }
}

/// Each row goes into the fullest bin that still takes it; of equally full ones into that which
/// has been so for longest.
fn best_fit(mut rows: Vec<Labelled>, size: usize) -> Vec<Packed> {
    rows.retain(|row| !row.ids.is_empty());
    rows.sort_by_key(|row| std::cmp::Reverse(row.ids.len()));
    let mut bins: Vec<Packed> = Vec::new();
    let mut by_space: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for row in rows {
        let length = row.ids.len();
        let fitting = by_space.range(length..).next().map(|(&space, _)| space);
        let bin = fitting.and_then(|space| take(&mut by_space, space)).unwrap_or_else(|| {
            let empty = Labelled { ids: Vec::new(), labels: Vec::new() };
            bins.push(Packed { row: empty, lengths: Vec::new() });
            bins.len() - 1
        });
        append(&mut bins[bin], row);
        let space = size - bins[bin].row.ids.len();
        by_space.entry(space).or_default().push_back(bin);
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

fn append(bin: &mut Packed, row: Labelled) {
    bin.lengths.push(row.ids.len());
    bin.row.ids.extend(row.ids);
    bin.row.labels.extend(row.labels);
}

fn wrapped(rows: &[Labelled], size: usize) -> Vec<Packed> {
    let ids: Vec<_> = rows.iter().flat_map(|row| row.ids.iter().copied()).collect();
    let labels: Vec<_> = rows.iter().flat_map(|row| row.labels.iter().copied()).collect();
    let slices = ids.chunks(size).zip(labels.chunks(size));
    slices
        .map(|(ids, labels)| Packed {
            lengths: vec![ids.len()],
            row: Labelled { ids: ids.to_vec(), labels: labels.to_vec() },
        })
        .collect()
}

#[cfg(test)]
impl Strategy {
    pub(crate) fn named(name: &str) -> Self {
        serde_json::from_value(name.into()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles;

    fn row(ids: &[u32]) -> Labelled {
        Labelled { ids: ids.to_vec(), labels: ids.iter().map(|&id| i64::from(id)).collect() }
    }

    #[test]
    fn best_fit_fills_the_fullest_row_first() {
        let rows = [row(&[1; 3]), row(&[2; 5]), row(&[3; 4]), row(&[4; 1])];
        let packed = pack(&rows, 6, Strategy::Bfd);
        let lengths: Vec<_> = packed.iter().map(|row| row.lengths.clone()).collect();
        assert_eq!(lengths, [vec![5, 1], vec![4], vec![3]]);
    }

    #[test]
    fn splitting_loses_no_token() {
        let rows = [row(&(0..20).collect::<Vec<_>>()), row(&[])];
        let mut ids: Vec<_> =
            pack(&rows, 6, Strategy::BfdSplit).into_iter().flat_map(|row| row.row.ids).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn oracle_packing() {
        let Some(folder) = oracles::folder() else { return };
        let packing = &oracles::json(&folder, "data/prepared.json")["packing"];
        let sequences = packing["sequences"].as_array().unwrap();
        let rows: Vec<_> = sequences.iter().map(|ids| row(&oracles::ids(ids))).collect();
        let size = usize::try_from(packing["size"].as_u64().unwrap()).unwrap();
        for (name, expected) in packing["expected"].as_object().unwrap() {
            let packed = pack(&rows, size, Strategy::named(name));
            let found: Vec<_> = packed.iter().map(|packed| packed.row.ids.clone()).collect();
            let expected = expected.as_array().unwrap();
            let ids: Vec<_> = expected.iter().map(|row| oracles::ids(&row["input_ids"])).collect();
            assert_eq!(found, ids, "{name}");
            for (packed, expected) in packed.iter().zip(expected) {
                if expected["seq_lengths"].is_array() {
                    let lengths: Vec<_> =
                        packed.lengths.iter().map(|&n| u32::try_from(n).unwrap()).collect();
                    assert_eq!(lengths, oracles::ids(&expected["seq_lengths"]), "{name}");
                }
            }
        }
    }
}
