//! From values to places, with round ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::{Figure, Look};

const MOST_STEPS: f64 = 7.0;
/// Of the width, left free beyond the outermost values.
const MARGIN: f64 = 0.03;

/// A stretch of numbers that begins and ends at a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    step: f64,
    steps: u32,
}

/// The axes that hold all of a figure.
pub(crate) fn axes(figure: &Figure) -> (Axis, Axis) {
    let x = figure.points().map(|(_, point)| point.x).chain(figure.from_zero.then_some(0.0));
    let bounds = figure.points().flat_map(|(_, point)| {
        let (low, high) = point.interval.unwrap_or((point.y, point.y));
        [point.y, low, high]
    });
    let y = bounds.chain(figure.level.iter().map(|level| level.y));
    // Marks need room at the edges, curves need none.
    let marked = figure.series.iter().any(|series| series.look != Look::Curve);
    let margin = if marked { MARGIN } else { 0.0 };
    // A curve's steps are counted: there is none between two.
    let counted = !marked && figure.points().all(|(_, point)| point.x.fract() == 0.0);
    let least = if counted { 1.0 } else { f64::MIN_POSITIVE };
    (Axis::over(x, margin, least), Axis::over(y, margin, f64::MIN_POSITIVE))
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, margin: f64, least_step: f64) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // In parts, so that the width of a huge range is still a number.
        let width = high * margin - low * margin;
        // One value alone lies in the middle.
        let room = if high > low { width } else { low.abs().max(1.0) * 0.5 };
        // What is never negative has no room below 0.
        let least = if low >= 0.0 && high > low { 0.0 } else { f64::MIN };
        let (low, high) = ((low - room).max(least), (high + room).min(f64::MAX));
        let step = round_step((high / MOST_STEPS - low / MOST_STEPS).max(least_step));
        let low = ((low / step).floor() * step).max(f64::MIN);
        let mut steps = 1;
        while low + step * f64::from(steps) < high - 1e-9 * step && steps < 20 {
            steps += 1;
        }
        Self { low, step, steps }
    }

    /// Where a value lies, from 0 to 1.
    pub(crate) fn part(&self, value: f64) -> f64 {
        let width = self.step / 4.0 * f64::from(self.steps);
        ((value / 4.0 - self.low / 4.0) / width).clamp(0.0, 1.0)
    }

    pub(crate) fn ticks(&self) -> impl Iterator<Item = f64> {
        let all = (0..=self.steps).map(|i| self.low + self.step * f64::from(i));
        all.filter(|tick| tick.is_finite())
    }

    /// A tick in as few digits as tell it from its neighbours.
    pub(crate) fn label(&self, tick: f64) -> String {
        // Adding steps may leave a hair's breadth beside zero.
        let tick = if tick.abs() < 1e-9 * self.step { 0.0 } else { tick };
        let places = (0_u8..6).find(|&places| {
            let scaled = self.step * 10_f64.powi(places.into());
            scaled > 0.5 && (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        match places {
            _ if tick == 0.0 => "0".to_owned(),
            Some(places) if tick.abs() < 1e6 => format!("{tick:.*}", usize::from(places)),
            _ => {
                let digits =
                    (tick.abs().log10().floor() - self.step.log10().floor()).clamp(0.0, 6.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 6"
                )]
                let digits = digits as usize;
                format!("{tick:.digits$e}")
            }
        }
    }
}

/// The least of 1, 2, 5 times a power of ten that is no less than `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let at = f64::from(from) + self.part(*value) * f64::from(to - from);
        #[expect(clippy::cast_possible_truncation, reason = "between two that are i32")]
        let at = at.round() as i32;
        at
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks().collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.low + self.step * f64::from(self.steps)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, tick: &f64) -> String {
        self.label(*tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), 0.0, f64::MIN_POSITIVE);
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        assert_eq!(labels(&[0.0, 9.5]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&[-0.13, 0.21]),
            ["-0.15", "-0.10", "-0.05", "0", "0.05", "0.10", "0.15", "0.20", "0.25"]
        );
        assert_eq!(
            labels(&[0.0, 2.8e9]),
            ["0", "5e8", "1.0e9", "1.5e9", "2.0e9", "2.5e9", "3.0e9"]
        );
        assert_eq!(
            labels(&[2e-8, 3e-8]),
            ["2.0e-8", "2.2e-8", "2.4e-8", "2.6e-8", "2.8e-8", "3.0e-8"]
        );
    }

    #[test]
    fn one_value_and_none_have_an_axis_too() {
        let axis = Axis::over([3.0].into_iter(), MARGIN, f64::MIN_POSITIVE);
        assert!(axis.part(3.0) > 0.4 && axis.part(3.0) < 0.6);
        assert!(labels(&[f64::NAN]).len() > 3);
    }

    #[test]
    fn the_widest_range_has_places() {
        let axis = Axis::over([f64::MIN, f64::MAX].into_iter(), MARGIN, f64::MIN_POSITIVE);
        assert!(axis.part(f64::MIN) < 0.1 && axis.part(f64::MAX) > 0.8, "{axis:?}");
        assert!(axis.ticks().all(f64::is_finite));
    }
}
