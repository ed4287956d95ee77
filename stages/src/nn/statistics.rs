//! Intervals and calibration, in float64 on the host.
//!
//! An interval is over prompts, or whatever else was drawn independently: several samples of one prompt are
//! alike and say less than as many prompts. Which interval stands where was decided by simulation, which
//! `coverage.rs` repeats. Nothing here is random.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Holds the true value in 95 of 100 repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What was measured, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    /// None of a single prompt: it says nothing about others.
    pub(crate) interval: Option<Interval>,
}

/// The outcomes of one prompt, each from 0 to 1: their sum and their count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcomes {
    pub(crate) sum: f64,
    pub(crate) count: f64,
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Bradley-Terry: the probability that the first of two is preferred.
pub(crate) fn preferred(difference: f64, noise: f64) -> f64 {
    if difference == 0.0 {
        0.5
    } else if noise > 0.0 {
        1.0 / (1.0 + (-difference / noise).exp())
    } else {
        f64::from(difference > 0.0)
    }
}

/// The 97.5th percentile of Student's t.
pub(crate) fn t975(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
}

/// A mean of independent values with Student's t interval (1908). None without values.
///
/// Of few and very skewed values it holds less than it says: of five exponential ones 88 %, of five
/// log-normal ones 82 %, of thirty 92 and 87 %, of two hundred 93 %. Of few values the bootstrap, percentile
/// or corrected for bias and skew, holds still less: of five log-normal ones 69 and 74 %.
pub(crate) fn mean_of(values: &[f64]) -> Option<Estimate> {
    let (count, value) = (values.len() as f64, mean(values));
    let interval = (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
        let half = t975(count - 1.0) * (squares / (count - 1.0) / count).sqrt();
        Interval { low: value - half, high: value + half }
    });
    (!values.is_empty()).then_some(Estimate { value, interval })
}

/// A rate over prompts with the score interval (Wilson 1927, eq. 3) of as many independent outcomes as the
/// prompts are worth, and Student's t in place of the normal, as the variance is estimated too. None without
/// outcomes.
///
/// `n` prompts are worth `n / ρ` outcomes; `ρ` is the variance between prompts over that of single outcomes,
/// `p (1 − p)`: 1 when all outcomes of a prompt agree, 1/k when each has k that are independent. Few prompts
/// with both outcomes say little about `ρ`, so it is drawn towards 1 with the weight of two prompts (where
/// `p` is 0 or 1 it is 1). Without that, rates near 0 and 1 were held in 88 % only.
pub(crate) fn rate_of(prompts: &[Outcomes]) -> Option<Estimate> {
    let n = prompts.len() as f64;
    let count: f64 = prompts.iter().map(|prompt| prompt.count).sum();
    if count <= 0.0 {
        return None;
    }
    let value = prompts.iter().map(|prompt| prompt.sum).sum::<f64>() / count;
    let interval = (prompts.len() > 1).then(|| {
        // A ratio of sums, where prompts may differ in their counts (Cochran 1977, eq. 6.9).
        let residual = |prompt: &Outcomes| (prompt.sum - value * prompt.count) * n / count;
        let between = prompts.iter().map(|it| residual(it).powi(2)).sum::<f64>() / (n - 1.0);
        let single = value * (1.0 - value);
        let known = 4.0 * n * single;
        let observed = if single > 0.0 { between / single } else { 1.0 };
        let ratio = (known * observed + 2.0) / (known + 2.0);
        wilson(value, n / ratio, t975(n - 1.0))
    });
    Some(Estimate { value, interval })
}

fn wilson(p: f64, n: f64, z: f64) -> Interval {
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// Expected calibration error (Naeini et al. 2015, eq. 2) over ten bins of equal width: how far the
/// probability that was claimed lies from how often it came true.
pub(crate) fn calibration_error(claims: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); 10];
    for (probability, came_true) in claims {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
        let bin = (probability * 10.0).clamp(0.0, 9.0) as usize;
        bins[bin].0 += probability;
        bins[bin].1 += f64::from(*came_true);
    }
    let gap: f64 = bins.iter().map(|(claimed, true_)| (claimed - true_).abs()).sum();
    gap / claims.len().max(1) as f64
}

/// 1 for more, 0 for less, a half for a tie.
pub(crate) fn won(margin: f64) -> f64 {
    if margin == 0.0 { 0.5 } else { f64::from(margin > 0.0) }
}

/// Below which that part of the values lies, by linear interpolation.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = part.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    values[below] + (values[above] - values[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<Interval>, low: f64, high: f64) {
        let found = found.unwrap();
        assert!((found.low - low).abs() < 1e-4 && (found.high - high).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn quantiles_lie_between_values() {
        let close = |part: f64, by_hand: f64| {
            assert!((quantile(vec![4.0, 1.0, 2.0], part) - by_hand).abs() < 1e-12);
        };
        close(0.0, 1.0);
        close(0.5, 2.0);
        close(0.75, 3.0);
        close(1.0, 4.0);
    }

    #[test]
    fn percentiles_of_students_t_are_those_of_the_tables() {
        for (freedom, known) in
            [(1.0, 12.7062), (4.0, 2.7764), (9.0, 2.2622), (29.0, 2.0452), (199.0, 1.9720)]
        {
            assert!((t975(freedom) - known).abs() < 1e-4, "{freedom}: {}", t975(freedom));
        }
    }

    #[test]
    fn the_score_interval_of_eight_in_ten() {
        close(Some(wilson(0.8, 10.0, 1.959_964)), 0.490_162, 0.943_318);
    }

    #[test]
    fn two_prompts_have_an_interval_and_one_has_none() {
        // Deviation √2, error 1, and t of one degree of freedom.
        let found = mean_of(&[2.0, 4.0]).unwrap();
        assert!((found.value - 3.0).abs() < 1e-12);
        close(found.interval, 3.0 - 12.7062, 3.0 + 12.7062);
        assert_eq!(mean_of(&[2.0]), Some(Estimate { value: 2.0, interval: None }));
        assert_eq!(mean_of(&[]), None);
        let one = Outcomes { sum: 3.0, count: 4.0 };
        assert_eq!(rate_of(&[one]), Some(Estimate { value: 0.75, interval: None }));
        assert_eq!(rate_of(&[]), None);
    }

    #[test]
    fn outcomes_that_agree_within_prompts_count_once_a_prompt() {
        let prompts = |sums: [f64; 2], count| sums.map(|sum| Outcomes { sum, count }).repeat(20);
        let alike = rate_of(&prompts([0.0, 4.0], 4.0)).unwrap();
        assert_eq!(rate_of(&prompts([0.0, 1.0], 1.0)), Some(alike));
        let mixed = rate_of(&prompts([1.0, 3.0], 4.0)).unwrap();
        let width = |it: Estimate| it.interval.map(|it| it.high - it.low).unwrap();
        assert!(width(mixed) < 0.6 * width(alike), "{mixed:?} {alike:?}");
    }

    #[test]
    fn a_rate_of_none_in_ten_prompts_is_bounded_from_above() {
        let found = rate_of(&[Outcomes { sum: 0.0, count: 4.0 }; 10]).unwrap().interval.unwrap();
        // z² / (n + z²) with t of nine degrees of freedom.
        assert!(found.low.abs() < 1e-12);
        assert!((found.high - 2.2622_f64.powi(2) / (10.0 + 2.2622_f64.powi(2))).abs() < 1e-4);
    }

    #[test]
    fn claims_of_eighty_percent_that_hold_half_the_time_are_off_by_thirty() {
        assert!((calibration_error(&[(0.8, true), (0.8, false)]) - 0.3).abs() < 1e-12);
    }
}
