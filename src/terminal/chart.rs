//! Curves in letters: one as a line of Braille dots, several by a letter each.
//!
//! Fits [`WIDTH`] columns and needs no colour.

use std::fmt::Write;

use gradus_engine::run::Points;

use super::paint::{harmless, number, pad};

const WIDTH: usize = 80;
const ROWS: usize = 14;
/// For the numbers of the vertical axis.
const MARGIN: usize = 11;
const COLUMNS: usize = WIDTH - MARGIN - 2;
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A curve and its name.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Points,
}

/// What part of the plane is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) steps: (f64, f64),
    pub(super) values: (f64, f64),
}

impl Frame {
    /// The smallest that shows every finite point. `None` if there is none.
    pub(super) fn around(curves: &[Curve]) -> Option<Self> {
        let points = || curves.iter().flat_map(|curve| finite(&curve.points));
        let (first, value) = points().next()?;
        let mut frame = Self { steps: (first, first), values: (value, value) };
        for (step, value) in points() {
            frame.steps = (frame.steps.0.min(step), frame.steps.1.max(step));
            frame.values = (frame.values.0.min(value), frame.values.1.max(value));
        }
        if frame.values.0 >= frame.values.1 {
            // A flat line lies in the middle.
            let room = frame.values.0.abs().max(1.0) * 0.5;
            frame.values = (frame.values.0 - room, frame.values.1 + room);
        }
        Some(frame)
    }

    /// Where a point lies, from 0 (left, bottom) to 1.
    pub(super) fn place(&self, (step, value): (f64, f64)) -> (f64, f64) {
        let part = |of: f64, (low, high): (f64, f64)| {
            // Halves, so that the width of a huge range is still a number.
            let (of, low, high) = (of * 0.5, low * 0.5, high * 0.5);
            if high > low { (of - low) / (high - low) } else { 0.5 }
        };
        (part(step, self.steps), part(value, self.values))
    }
}

/// The points that can be drawn.
pub(super) fn finite(points: &Points) -> impl Iterator<Item = (f64, f64)> {
    let drawn = points.iter().filter_map(|(step, value)| Some((*step as f64, (*value)?)));
    drawn.filter(|(_, value)| value.is_finite())
}

/// The curves in one picture.
pub(super) fn draw(title: &str, curves: &[Curve]) -> String {
    let Some(frame) = Frame::around(curves) else {
        return format!("{}: no value is finite\n", harmless(title));
    };
    let rows = match curves {
        [one] => braille(&frame, one),
        several => letters(&frame, several),
    };
    // Writing into a `String` cannot fail.
    let mut text = format!("{}\n", harmless(title));
    for (i, row) in rows.iter().enumerate() {
        let label = match i {
            0 => number(frame.values.1),
            _ if i == ROWS / 2 => number(middle(frame.values)),
            _ if i + 1 == ROWS => number(frame.values.0),
            _ => String::new(),
        };
        let tick = if label.is_empty() { '│' } else { '┤' };
        let _ = writeln!(text, "{label:>MARGIN$} {tick}{}", row.trim_end());
    }
    let (first, last) = (format!("{:.0}", frame.steps.0), format!("{:.0}", frame.steps.1));
    let rest = COLUMNS.saturating_sub(first.len() + last.len() + 4);
    let steps =
        format!("{first}{}step{}{last}", " ".repeat(rest / 2), " ".repeat(rest.div_ceil(2)));
    let (blank, rule) = (" ".repeat(MARGIN), "─".repeat(COLUMNS));
    let _ = writeln!(text, "{blank} └{rule}\n{blank}  {steps}");
    if curves.len() > 1 {
        let names = curves.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
        for (curve, letter) in curves.iter().zip(LETTERS.chars().cycle()) {
            let last = finite(&curve.points).last().map_or("-".to_owned(), |it| number(it.1));
            let name = pad(&harmless(&curve.name), names);
            let _ = writeln!(text, "{letter:>MARGIN$} {name}  last {last}");
        }
    }
    text
}

fn middle((low, high): (f64, f64)) -> f64 {
    low * 0.5 + high * 0.5
}

/// Which of `count` cells a part from 0 to 1 falls into.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and held between 0 and the count of cells"
)]
fn cell(part: f64, count: usize) -> usize {
    (part.clamp(0.0, 1.0) * (count - 1) as f64).round() as usize
}

/// Each cell has two by four dots; points are joined.
fn braille(frame: &Frame, curve: &Curve) -> Vec<String> {
    let (width, height) = (COLUMNS * 2, ROWS * 4);
    let mut dots = vec![vec![false; width]; height];
    let mut before: Option<(usize, usize)> = None;
    for (step, value) in &curve.points {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            // A gap stays one.
            before = None;
            continue;
        };
        let (x, y) = frame.place((*step as f64, value));
        let here = (cell(x, width), cell(y, height));
        for (x, y) in line(before.unwrap_or(here), here) {
            dots[height - 1 - y][x] = true;
        }
        before = Some(here);
    }
    let bits = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    let letter = |row: usize, column: usize| {
        let mut code = 0x2800_u32;
        for (y, bits) in bits.iter().enumerate() {
            for (x, bit) in bits.iter().enumerate() {
                if dots[row * 4 + y][column * 2 + x] {
                    code |= bit;
                }
            }
        }
        if code == 0x2800 { ' ' } else { char::from_u32(code).unwrap_or(' ') }
    };
    (0..ROWS).map(|row| (0..COLUMNS).map(|column| letter(row, column)).collect()).collect()
}

/// The cells between two, both included.
fn line(from: (usize, usize), to: (usize, usize)) -> Vec<(usize, usize)> {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
    let between = |from: usize, to: usize, i: usize| {
        let part = i as f64 / steps as f64;
        let count = from.abs_diff(to) + 1;
        let moved = cell(part, count);
        if to >= from { from + moved } else { from - moved }
    };
    (0..=steps).map(|i| (between(from.0, to.0, i), between(from.1, to.1, i))).collect()
}

/// A letter for each curve; where several meet, `*`.
fn letters(frame: &Frame, curves: &[Curve]) -> Vec<String> {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    for (curve, letter) in curves.iter().zip(LETTERS.chars().cycle()) {
        for point in finite(&curve.points) {
            let (x, y) = frame.place(point);
            let cell = &mut cells[ROWS - 1 - cell(y, ROWS)][cell(x, COLUMNS)];
            *cell = if *cell == ' ' || *cell == letter { letter } else { '*' };
        }
    }
    cells.into_iter().map(|row| row.into_iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, of: impl Fn(f64) -> f64) -> Curve {
        let value = |step: u64| Some(of(step as f64)).filter(|value| value.is_finite());
        Curve { name: name.to_owned(), points: (1..=50).map(|step| (step, value(step))).collect() }
    }

    #[test]
    fn one_curve_is_a_line() {
        insta::assert_snapshot!(draw("loss of sft", &[curve("sft", |step| (-step / 12.0).exp())]));
    }

    #[test]
    fn several_curves_have_a_letter_each() {
        let curves = [curve("dpo[beta=0.1]", |step| step / 50.0), curve("dpo[beta=1]", |_| 0.25)];
        insta::assert_snapshot!(draw("loss", &curves));
    }

    #[test]
    fn every_line_fits_the_terminal() {
        let curves = [curve("a", |step| step * 1e9), curve("b", |step| -step * 1e-9)];
        for shown in [&curves[..1], &curves[1..], &curves] {
            let text = draw("title", shown);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let gap = curve("gap", |step| if step < 40.0 { step } else { f64::NAN });
        assert!(draw("loss", &[gap]).contains("39"));
        assert_eq!(draw("loss", &[curve("none", |_| f64::NAN)]), "loss: no value is finite\n");
        let huge = curve("huge", |step| if step < 25.0 { f64::MIN } else { f64::MAX });
        assert!(draw("loss", &[huge]).contains("1.798e308"));
    }
}
