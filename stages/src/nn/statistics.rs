//! Intervals and calibration, in float64 on the host.

use rand::Rng;

use super::stream::Stream;

/// 97.5th percentile of the standard normal.
const Z95: f64 = 1.959_963_984_540_054;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The score interval of a proportion (Wilson 1927, eq. 3), 95 %.
pub(crate) fn wilson(successes: f64, count: usize) -> Interval {
    if count == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, z2) = (count as f64, Z95 * Z95);
    let p = successes / n;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// The percentile bootstrap of a mean (Efron 1979), 95 %, from 2000 resamples.
pub(crate) fn bootstrap(values: &[f64], seed: u64) -> Interval {
    const RESAMPLES: usize = 2000;
    if values.is_empty() {
        return Interval { low: f64::NAN, high: f64::NAN };
    }
    let mut generator = Stream::of(seed).named("bootstrap").generator();
    let mut resample = || {
        let pick = |_| values[generator.random_range(0..values.len())];
        (0..values.len()).map(pick).sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    Interval { low: means[RESAMPLES / 40], high: means[RESAMPLES - 1 - RESAMPLES / 40] }
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

/// How well some score ranks pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranking {
    pub(crate) accuracy: f64,
    pub(crate) interval: Interval,
    pub(crate) margin: f64,
}

impl Ranking {
    /// From the chosen side's score less the rejected side's.
    pub(crate) fn of(margins: &[f64]) -> Self {
        let won = |margin: &f64| if *margin == 0.0 { 0.5 } else { f64::from(*margin > 0.0) };
        let wins: f64 = margins.iter().map(won).sum();
        let count = margins.len().max(1) as f64;
        let interval = wilson(wins, margins.len());
        Self { accuracy: wins / count, interval, margin: margins.iter().sum::<f64>() / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_interval_of_eight_in_ten() {
        let Interval { low, high } = wilson(8.0, 10);
        assert!((low - 0.490_162).abs() < 1e-5 && (high - 0.943_318).abs() < 1e-5);
    }

    #[test]
    fn the_bootstrap_of_a_constant_is_a_point() {
        assert_eq!(bootstrap(&[2.0; 5], 1), Interval { low: 2.0, high: 2.0 });
        let Interval { low, high } = bootstrap(&[0.0, 1.0].repeat(50), 1);
        assert!((low - 0.4).abs() < 0.03 && (high - 0.6).abs() < 0.03);
    }

    #[test]
    fn claims_of_eighty_percent_that_hold_half_the_time_are_off_by_thirty() {
        assert!((calibration_error(&[(0.8, true), (0.8, false)]) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_tie_is_half_a_win() {
        assert!((Ranking::of(&[1.0, 0.0, -1.0, 2.0]).accuracy - 0.625).abs() < 1e-12);
    }
}
