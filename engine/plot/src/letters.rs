//! A figure in letters, [`WIDTH`] columns wide, without colour: one curve as a line of Braille dots, and else a
//! letter for each curve or point, whose names stand below.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    Figure, Look, Point,
    axis::{Axis, axes},
    figure::plain,
};

const WIDTH: usize = 80;
const ROWS: usize = 15;
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

pub(crate) fn draw(figure: &Figure) -> String {
    // Writing into a `String` cannot fail.
    let title = plain(&figure.title);
    if figure.points().next().is_none() {
        return format!("{title}: no value is finite\n");
    }
    let mut text = if title.is_empty() { title } else { title + "\n" };
    let (x, y) = axes(figure);
    let labels: BTreeMap<usize, String> =
        y.ticks().map(|tick| (row(&y, tick), y.label(tick))).collect();
    let margin = labels.values().map(String::len).max().unwrap_or(0);
    let columns = WIDTH - margin - 3;
    let (rows, key) = match figure.series.as_slice() {
        [one] if one.look == Look::Curve => (braille(&x, &y, &one.points, columns), Vec::new()),
        _ => marks(figure, &x, &y, columns),
    };
    let _ = writeln!(text, "{:margin$} {}", "", plain(&figure.y));
    for (at, row) in rows.iter().enumerate() {
        let label = labels.get(&at).map_or("", String::as_str);
        let tick = if label.is_empty() { '│' } else { '┤' };
        let _ = writeln!(text, "{}", format!("{label:>margin$} {tick}{row}").trim_end());
    }
    let (rule, ticks) = below(&x, columns);
    let _ = writeln!(text, "{:margin$} └{rule}\n{:margin$}  {}", "", "", ticks.trim_end());
    let _ = writeln!(text, "{:margin$}  {}", "", plain(&figure.x));
    for line in key {
        let _ = writeln!(text, "{:margin$}  {line}", "");
    }
    text
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

fn row(y: &Axis, value: f64) -> usize {
    ROWS - 1 - cell(y.part(value), ROWS)
}

/// The horizontal axis and the numbers under it, as many as have room.
fn below(x: &Axis, columns: usize) -> (String, String) {
    let mut rule = vec!['─'; columns];
    let mut numbers = String::new();
    for tick in x.ticks() {
        let (at, label) = (cell(x.part(tick), columns), x.label(tick));
        rule[at] = '┬';
        let start = at.saturating_sub(label.len() / 2).min(columns - label.len().min(columns));
        if numbers.is_empty() || start > numbers.len() + 1 {
            numbers += &" ".repeat(start - numbers.len());
            numbers += &label;
        }
    }
    (rule.into_iter().collect(), numbers)
}

/// A letter for each curve and for each other point, and what the letters mean.
fn marks(figure: &Figure, x: &Axis, y: &Axis, columns: usize) -> (Vec<String>, Vec<String>) {
    let mut cells = vec![vec![' '; columns]; ROWS];
    let mut letters = LETTERS.chars().cycle();
    let mut key = Vec::new();
    let mut bars = Vec::new();
    if let Some(level) = &figure.level {
        cells[row(y, level.y)] = "- ".chars().cycle().take(columns).collect();
    }
    for series in &figure.series {
        let name = plain(&series.name);
        let mut points = series.points.iter().filter(|it| it.x.is_finite() && it.y.is_finite());
        if series.look == Look::Curve {
            let letter = letters.next().unwrap_or('*');
            for point in points.clone() {
                let cell = &mut cells[row(y, point.y)][cell(x.part(point.x), columns)];
                *cell = if matches!(*cell, ' ' | '-') || *cell == letter { letter } else { '*' };
            }
            let last = points.next_back().map_or("-".to_owned(), |it| short(it.y));
            key.push(format!("{letter} {name}  last {last}"));
            continue;
        }
        for point in points {
            let letter = letters.next().unwrap_or('*');
            let (row, column) = (row(y, point.y), cell(x.part(point.x), columns));
            let free = |column: &usize| !cells[row][*column].is_alphabetic();
            // Where another letter stands, the next place to the right shows both.
            let column = (column..columns).find(free).unwrap_or(column);
            cells[row][column] = letter;
            bars.push((column, point));
            let space = if point.name.is_empty() { "" } else { "  " };
            key.push(format!("{letter} {name}{space}{}", plain(&point.name)));
        }
    }
    for (column, point) in bars {
        let Some((low, high)) = point.interval else { continue };
        for row in &mut cells[row(y, high)..=row(y, low)] {
            if matches!(row[column], ' ' | '-') {
                row[column] = '|';
            }
        }
    }
    if let Some(level) = &figure.level {
        key.push(format!("- {}", plain(&level.name)));
    }
    (cells.into_iter().map(|row| row.into_iter().collect()).collect(), key)
}

/// Each cell has two by four dots; points are joined.
fn braille(x: &Axis, y: &Axis, points: &[Point], columns: usize) -> Vec<String> {
    let (width, height) = (columns * 2, ROWS * 4);
    let mut dots = vec![vec![false; width]; height];
    let mut before: Option<(usize, usize)> = None;
    for point in points {
        if !point.x.is_finite() || !point.y.is_finite() {
            // A gap stays one.
            before = None;
            continue;
        }
        let here = (cell(x.part(point.x), width), cell(y.part(point.y), height));
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
    (0..ROWS).map(|row| (0..columns).map(|column| letter(row, column)).collect()).collect()
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

/// Four digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        _ if value == 0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.3e}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}
