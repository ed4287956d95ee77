//! Something about every row, computed in batches of rows of like length and put back in order.

use gradus_protocol::Page;
use serde::{Serialize, de::DeserializeOwned};

use super::kept::kept;
use crate::error::StageError;

/// Tokens of a batch, padding included.
const TOKENS: usize = 1 << 14;
const ROWS: usize = 64;
/// Rows among which those of like length are looked for, where results are kept: a row more or less leaves the batches
/// of the blocks before it as they are.
const BLOCK: usize = 1024;

/// What `compute` makes of every row; it is given the numbers of the rows of one batch. `report` hears how
/// many of how many are done.
pub(crate) fn each<T: Clone + Default>(
    lengths: &[usize],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
    compute: impl FnMut(&[usize]) -> Result<Vec<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    in_blocks(usize::MAX, lengths, report, compute)
}

/// The same, where what stands on `page` is not computed again. A row is all of it that its result hangs on.
pub(crate) fn each_kept<T: Clone + Default + Serialize + DeserializeOwned, R: Serialize>(
    page: &Page,
    row: impl Fn(usize) -> R,
    lengths: &[usize],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
    mut compute: impl FnMut(&[usize]) -> Result<Vec<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    in_blocks(BLOCK, lengths, report, |part| {
        // A batch is kept whole: in other company a row would come out with other last bits.
        let rows: Vec<R> = part.iter().map(|number| row(*number)).collect();
        kept(page, &rows, || compute(part))
    })
}

fn in_blocks<T: Clone + Default>(
    block: usize,
    lengths: &[usize],
    mut report: impl FnMut(usize, usize) -> Result<(), StageError>,
    mut compute: impl FnMut(&[usize]) -> Result<Vec<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let numbers: Vec<usize> = (0..lengths.len()).collect();
    let mut found = vec![T::default(); lengths.len()];
    let mut done = 0;
    report(done, lengths.len())?;
    for block in numbers.chunks(block) {
        let mut order = block.to_vec();
        order.sort_by_key(|row| lengths[*row]);
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (part, others) = rest.split_at(fitting(rest, lengths));
            for (row, value) in part.iter().zip(compute(part)?) {
                found[*row] = value;
            }
            rest = others;
            done += part.len();
            report(done, lengths.len())?;
        }
    }
    Ok(found)
}

/// The sum of each stretch of `values`, one behind the other, of these lengths.
pub(crate) fn sums(values: &[f64], lengths: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut rest = values;
    let sum = |length| {
        let (own, others) = rest.split_at(length);
        rest = others;
        own.iter().sum()
    };
    lengths.map(sum).collect()
}

/// How many of the rows, which are in the order of their lengths, make one batch: at least one.
fn fitting(rows: &[usize], lengths: &[usize]) -> usize {
    let fits = |(i, row): &(usize, &usize)| (i + 1) * lengths[**row] <= TOKENS;
    rows.iter().enumerate().take(ROWS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_own_whatever_the_batches() {
        let lengths: Vec<usize> = (0..200).map(|i| (i * 37) % 400 + 1).collect();
        let (mut batches, mut heard) = (0, Vec::new());
        let found = each(
            &lengths,
            |done, all| {
                heard.push((done, all));
                Ok(())
            },
            |rows| {
                let longest = rows.iter().map(|row| lengths[*row]).max().unwrap();
                assert!(rows.len() <= ROWS && rows.len() * longest <= TOKENS);
                batches += 1;
                Ok(rows.iter().map(|row| lengths[*row] * 2).collect())
            },
        );
        assert_eq!(found.unwrap(), lengths.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(
            (heard.len(), heard[0], *heard.last().unwrap()),
            (batches + 1, (0, 200), (200, 200))
        );
    }

    #[test]
    fn rows_behind_change_nothing_of_what_was_kept_before_them() {
        let place = tempfile::tempdir().unwrap();
        let page = Page::new(Some(place.path()), false, "lengths");
        let length = |i: usize| (i * 37) % 400 + 1;
        let computed = |count: usize| {
            let lengths: Vec<usize> = (0..count).map(length).collect();
            let mut asked = 0;
            let found = each_kept(
                &page,
                |row| row,
                &lengths,
                |_, _| Ok(()),
                |rows| {
                    asked += rows.len();
                    Ok(rows.iter().map(|row| lengths[*row] * 2).collect())
                },
            );
            assert_eq!(found.unwrap(), lengths.iter().map(|n| n * 2).collect::<Vec<_>>());
            asked
        };
        assert_eq!(computed(BLOCK + 100), BLOCK + 100);
        assert_eq!(computed(BLOCK + 100), 0);
        assert!(computed(BLOCK + 110) <= 110);
    }

    #[test]
    fn a_row_longer_than_a_batch_is_one_by_itself() {
        let found = each(&[TOKENS * 2, 3], |_, _| Ok(()), |rows| Ok(vec![rows.len(); rows.len()]));
        assert_eq!(found.unwrap(), [1, 1]);
    }
}
