//! Something about every row, computed in batches of rows of like length and put back in order.

use crate::error::StageError;

/// Tokens of a batch, padding included.
const TOKENS: usize = 1 << 14;
const ROWS: usize = 64;

/// What `compute` makes of every row; it is given the numbers of the rows of one batch. `report` hears how
/// many of how many are done.
pub(crate) fn each<T: Clone + Default>(
    lengths: &[usize],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
    compute: impl FnMut(&[usize]) -> Result<Vec<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    each_from(Vec::new(), lengths, |_| Ok(()), report, compute)
}

/// The same, going on behind what is `known`: `keep` is given, after every batch, all that was computed so far,
/// in the order in which it was, and may hand it to another try.
pub(crate) fn each_from<T: Clone + Default>(
    known: Vec<T>,
    lengths: &[usize],
    mut keep: impl FnMut(&[T]) -> Result<(), StageError>,
    mut report: impl FnMut(usize, usize) -> Result<(), StageError>,
    mut compute: impl FnMut(&[usize]) -> Result<Vec<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|row| lengths[*row]);
    let mut computed = known;
    computed.truncate(order.len());
    report(computed.len(), order.len())?;
    while computed.len() < order.len() {
        let rest = &order[computed.len()..];
        computed.extend(compute(&rest[..fitting(rest, lengths)])?);
        keep(&computed)?;
        report(computed.len(), order.len())?;
    }
    let mut found = vec![T::default(); order.len()];
    order.into_iter().zip(computed).for_each(|(row, value)| found[row] = value);
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
    fn a_row_longer_than_a_batch_is_one_by_itself() {
        let found = each(&[TOKENS * 2, 3], |_, _| Ok(()), |rows| Ok(vec![rows.len(); rows.len()]));
        assert_eq!(found.unwrap(), [1, 1]);
    }
}
