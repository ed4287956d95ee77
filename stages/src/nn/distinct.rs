//! Equal rows, computed once.
//!
//! Arithmetic in batches gives one row results that differ in the last bits with its neighbours, so equal rows
//! tie exactly only if they share a result.

use std::collections::HashMap;

/// The rows without repetition, in order, and for each row its place among them.
pub(crate) fn distinct<R: Copy + Eq + std::hash::Hash>(rows: &[R]) -> (Vec<R>, Vec<usize>) {
    let mut known = HashMap::new();
    let mut kept = Vec::new();
    let places = rows.iter().map(|row| {
        *known.entry(*row).or_insert_with(|| {
            kept.push(*row);
            kept.len() - 1
        })
    });
    let places = places.collect();
    (kept, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_in_the_order_they_came_in() {
        assert_eq!(distinct(&["b", "a", "b"]), (vec!["b", "a"], vec![0, 1, 0]));
    }
}
