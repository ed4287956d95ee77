//! How well numbers tell two sorts apart, and go with other numbers.

use super::statistics::{Estimate, Interval, mean};

/// The area under the receiver operating characteristic: how often a number of what is true lies above one of what is not, ties
/// counting half, with the interval of Hanley and `McNeil` (1982). None where all are of one sort.
pub(crate) fn area(numbers: &[f64], truths: &[bool]) -> Option<Estimate> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let positives = truths.iter().filter(|it| **it).count() as f64;
    let negatives = truths.len() as f64 - positives;
    if positives < 1.0 || negatives < 1.0 {
        return None;
    }
    // Those below, and half of those beside: what is equal shares its ranks.
    let (mut below, mut won, mut start) = (0.0, 0.0, 0);
    while start < order.len() {
        let equal = |at: &usize| numbers[order[*at]].total_cmp(&numbers[order[start]]).is_eq();
        let end = (start..order.len()).take_while(equal).count() + start;
        let own = order[start..end].iter().filter(|at| truths[**at]).count() as f64;
        let others = (end - start) as f64 - own;
        won += own * (below + others / 2.0);
        below += others;
        start = end;
    }
    let value = won / (positives * negatives);
    let (q1, q2) = (value / (2.0 - value), 2.0 * value * value / (1.0 + value));
    let squares = value * (1.0 - value)
        + (positives - 1.0) * (q1 - value * value)
        + (negatives - 1.0) * (q2 - value * value);
    let half = 1.959_964 * (squares.max(0.0) / (positives * negatives)).sqrt();
    let interval = Interval { low: (value - half).max(0.0), high: (value + half).min(1.0) };
    Some(Estimate { value, interval: Some(interval) })
}

/// The places of numbers in their order, from 1; equal ones share theirs.
pub(crate) fn ranks(numbers: &[f64]) -> Vec<f64> {
    let rank = |it: &f64| {
        let below = numbers.iter().filter(|other| *other < it).count() as f64;
        let equal = numbers.iter().filter(|other| other.total_cmp(it).is_eq()).count() as f64;
        below + f64::midpoint(equal, 1.0)
    };
    numbers.iter().map(rank).collect()
}

/// Pearson's correlation; none where one of the two is always the same.
pub(crate) fn correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let apart = |values: &[f64]| -> Vec<f64> {
        let centre = mean(values);
        values.iter().map(|it| it - centre).collect()
    };
    let (a, b) = (apart(one), apart(other));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let by = (product(&a, &a) * product(&b, &b)).sqrt();
    (by > 1e-12).then(|| product(&a, &b) / by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_how_often_what_is_true_lies_above() {
        let of = |numbers: &[f64], truths: &[bool]| area(numbers, truths).unwrap().value;
        // Of six pairs (2, 3, 3 against 1, 3) one against each: 2 > 1, 3 > 1 twice, 3 = 3 twice, 2 < 3.
        let found = of(&[2.0, 3.0, 3.0, 1.0, 3.0], &[true, true, true, false, false]);
        assert!((found - 4.0 / 6.0).abs() < 1e-12);
        // A = ⅔, Q₁ = ½, Q₂ = 8/15: (2/9 + 2 (½ − 4/9) + 8/15 − 4/9) / 6 is the square of its error.
        let bounds = area(&[2.0, 3.0, 3.0, 1.0, 3.0], &[true, true, true, false, false]);
        let low = bounds.unwrap().interval.unwrap().low;
        assert!((low - (4.0 / 6.0 - 1.959_964 * (0.422_222_f64 / 6.0).sqrt())).abs() < 1e-5);
        assert!((of(&[1.0, 1.0], &[true, false]) - 0.5).abs() < 1e-12);
        assert!(area(&[1.0, 2.0], &[true, true]).is_none());
        let numbers: Vec<f64> = (0..109).map(f64::from).collect();
        let truths: Vec<bool> = (0..109).map(|at| at >= 51).collect();
        let perfect = area(&numbers, &truths).unwrap();
        assert!((perfect.value - 1.0).abs() < 1e-12 && perfect.interval.unwrap().low > 0.999);
    }

    #[test]
    fn equal_numbers_share_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, -2.0]), [3.5, 2.0, 3.5, 1.0]);
    }

    #[test]
    fn lines_go_with_each_other_and_constants_with_nothing() {
        assert!((correlation(&[1.0, 2.0, 3.0], &[5.0, 3.0, 1.0]).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[1.0, 2.0], &[3.0, 3.0]), None);
        // Deviations −1, 0, 1 and −1, 2, −1: orthogonal.
        assert!(correlation(&[1.0, 2.0, 3.0], &[0.0, 3.0, 0.0]).unwrap().abs() < 1e-12);
    }
}
