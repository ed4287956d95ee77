//! How often a policy would win if its completions were as long as its rival's (Dubois et al. 2024, without terms for single prompts).

use crate::nn::statistics::{Estimate, Interval, t975};

/// Holds the pull of length where it explains every outcome.
const RIDGE: f64 = 1e-3;
const STEPS: usize = 50;

/// One meeting of two completions: how often the first is preferred, and by how many tokens it is longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meeting {
    pub(super) won: f64,
    pub(super) longer: f64,
}

/// `σ(θ)` of the most likely `won ~ σ(θ + φ tanh(longer / its deviation))`; the interval leaves out one prompt after the other (the
/// jackknife). None where nobody met.
pub(super) fn at_equal_length(prompts: &[Vec<Meeting>]) -> Option<Estimate> {
    let all: Vec<Meeting> = prompts.iter().flatten().copied().collect();
    if all.is_empty() {
        return None;
    }
    let squares: f64 = all.iter().map(|it| it.longer * it.longer).sum();
    let by = (squares / all.len() as f64).sqrt();
    let bent = |it: &Meeting| {
        let pull = if by > 0.0 { (it.longer / by).tanh() } else { 0.0 };
        (it.won, pull)
    };
    let prompts: Vec<Vec<(f64, f64)>> =
        prompts.iter().map(|own| own.iter().map(bent).collect()).collect();
    let theta = fitted(&prompts, None);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let count = prompts.len() as f64;
    let interval = (prompts.len() > 1).then(|| {
        let without: Vec<f64> = (0..prompts.len()).map(|at| fitted(&prompts, Some(at))).collect();
        let centre = without.iter().sum::<f64>() / count;
        let squares: f64 = without.iter().map(|it| (it - centre).powi(2)).sum();
        let half = t975(count - 1.0) * ((count - 1.0) / count * squares).sqrt();
        Interval { low: sigmoid(theta - half), high: sigmoid(theta + half) }
    });
    Some(Estimate { value: sigmoid(theta), interval })
}

/// θ by Newton's method, of all prompts but one.
fn fitted(prompts: &[Vec<(f64, f64)>], without: Option<usize>) -> f64 {
    let used = || {
        let prompts = prompts.iter().enumerate().filter(|(at, _)| Some(*at) != without);
        prompts.flat_map(|(_, own)| own)
    };
    let (mut theta, mut phi) = (0.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let (mut slope, mut curve) = ([-RIDGE * theta, -RIDGE * phi], [RIDGE, 0.0, RIDGE]);
        for (won, pull) in used() {
            let odds = 1.0 / (1.0 + (-(theta + phi * pull)).exp());
            let (gap, weight) = (won - odds, odds * (1.0 - odds));
            slope = [slope[0] + gap, slope[1] + gap * pull];
            curve = [curve[0] + weight, curve[1] + weight * pull, curve[2] + weight * pull * pull];
        }
        let whole = curve[0] * curve[2] - curve[1] * curve[1];
        let step = [
            (curve[2] * slope[0] - curve[1] * slope[1]) / whole,
            (curve[0] * slope[1] - curve[1] * slope[0]) / whole,
        ];
        // No further than odds change much, so that it does not run away from where it began.
        let short = (1.0 / (step[0].abs() + step[1].abs()).max(1e-300)).min(1.0);
        theta += short * step[0];
        phi += short * step[1];
        if step[0].abs() + step[1].abs() < 1e-12 {
            break;
        }
    }
    theta
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(of: impl Fn(usize) -> (f64, f64)) -> Vec<Vec<Meeting>> {
        let meeting = |at| {
            let (won, longer) = of(at);
            vec![Meeting { won, longer }]
        };
        (0..40).map(meeting).collect()
    }

    #[test]
    fn where_lengths_are_equal_it_is_the_win_rate() {
        let found = at_equal_length(&prompts(|at| (f64::from(u8::from(at % 4 > 0)), 0.0))).unwrap();
        assert!((found.value - 0.75).abs() < 1e-4);
        let interval = found.interval.unwrap();
        assert!(interval.low > 0.5 && interval.low < 0.65 && interval.high < 0.92, "{interval:?}");
        assert_eq!(at_equal_length(&[]), None);
    }

    #[test]
    fn what_length_wins_is_taken_off() {
        // As σ(2 tanh(l / s)) has it, with no preference besides, and mostly longer.
        let longer = |at: usize| -> f64 { if at.is_multiple_of(5) { -10.0 } else { 10.0 } };
        let odds = |at: usize| 1.0 / (1.0 + (-2.0 * (longer(at) / 10.0).tanh()).exp());
        let found = at_equal_length(&prompts(|at| (odds(at), longer(at)))).unwrap();
        assert!((found.value - 0.5).abs() < 1e-3, "{found:?}");
        let plain: f64 = (0..40).map(odds).sum::<f64>() / 40.0;
        assert!(plain > 0.65);
    }
}
