//! A scatter plot, written by hand: as SVG, and in letters for a terminal.
//!
//! In the SVG one colour per family of names, a line through it, and a bar for each interval.
//! `dpo[beta=0.1]` belongs to the family `dpo` and is labelled `beta=0.1`.

use std::{collections::BTreeMap, fmt::Write as _};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/// One evaluation.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) half_interval: f64,
    pub(super) baseline: bool,
}

impl Point {
    fn family(&self) -> &str {
        self.name.split('[').next().unwrap_or(&self.name)
    }

    fn within_family(&self) -> &str {
        self.name.split_once('[').map_or("", |(_, rest)| rest.trim_end_matches(']'))
    }
}

/// Draws the points with axes and legend.
pub(super) fn svg(title: &str, points: &[Point]) -> String {
    let x = Axis::over(points.iter().map(|point| point.x).chain([0.0]), LEFT, WIDTH - RIGHT);
    let bounds = points.iter().flat_map(|p| [p.y - p.half_interval, p.y + p.half_interval]);
    let y = Axis::over(bounds, HEIGHT - BOTTOM, TOP);
    let mut families: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in points {
        families.entry(point.family()).or_default().push(point);
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    label(&mut out, LEFT, 24.0, "start", "font-size=\"15\" font-weight=\"bold\"", title);
    axes(&mut out, &x, &y);
    for (index, (family, mut members)) in families.into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        members.sort_by(|a, b| a.x.total_cmp(&b.x));
        line(&mut out, &members, &x, &y, colour);
        for point in &members {
            marker(&mut out, point, x.at(point.x), y.at(point.y), &y, colour);
        }
        let at = TOP + 12.0 + 20.0 * index as f64;
        dot(&mut out, WIDTH - RIGHT + 20.0, at, members[0].baseline, colour);
        let name =
            if members[0].baseline { format!("{family} (baseline)") } else { family.to_owned() };
        label(&mut out, WIDTH - RIGHT + 32.0, at + 4.0, "start", "", &name);
    }
    out + "</svg>\n"
}

/// Draws the points in letters: `*` with its name, `o` for a baseline, `|` for an interval.
pub(super) fn text(points: &[Point]) -> String {
    const COLUMNS: f64 = 60.0;
    const ROWS: f64 = 14.0;
    let x = Axis::over(points.iter().map(|point| point.x).chain([0.0]), 0.0, COLUMNS);
    let bounds = points.iter().flat_map(|p| [p.y - p.half_interval, p.y + p.half_interval]);
    let y = Axis::over(bounds, ROWS, 0.0);
    let mut canvas = Canvas::default();
    for point in points {
        let mark = if point.baseline { "o" } else { "*" };
        canvas.write(place(x.at(point.x)), place(y.at(point.y)), mark);
    }
    for point in points {
        canvas.write(place(x.at(point.x)) + 2, place(y.at(point.y)), &point.name);
    }
    for point in points {
        let ends = [1.0, -1.0].map(|sign| place(y.at(point.y + sign * point.half_interval)));
        (ends[0]..=ends[1]).for_each(|row| canvas.write(place(x.at(point.x)), row, "|"));
    }
    let mut labels: BTreeMap<usize, String> =
        y.ticks().map(|tick| (place(y.at(tick)), y.label(tick))).collect();
    let width = labels.values().map(String::len).max().unwrap_or(0);
    let mut out = format!("{:width$} mean reward, 95 % interval\n", "");
    for row in 0..=place(ROWS) {
        let label = labels.remove(&row).unwrap_or_default();
        let line = format!("{label:>width$} │{}", canvas.row(row));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let mut ticks = Canvas::default();
    for tick in x.ticks() {
        ticks.write(place(x.at(tick)), 0, &x.label(tick));
    }
    let _ = writeln!(out, "{:width$} └{}", "", "─".repeat(place(COLUMNS) + 1));
    let _ = writeln!(out, "{:width$}  {}", "", ticks.row(0));
    let _ = writeln!(out, "{:width$}  KL from the reference, nats per completion", "");
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the canvas")]
fn place(at: f64) -> usize {
    at.round().max(0.0) as usize
}

/// Letters at places; what is written later does not cover what stands there.
#[derive(Default)]
struct Canvas(BTreeMap<(usize, usize), char>);

impl Canvas {
    fn write(&mut self, column: usize, row: usize, words: &str) {
        for (i, letter) in words.chars().filter(|letter| !letter.is_control()).enumerate() {
            self.0.entry((row, column + i)).or_insert(letter);
        }
    }

    fn row(&self, row: usize) -> String {
        let mut line = String::new();
        for (&(_, column), letter) in self.0.range((row, 0)..(row + 1, 0)) {
            let blanks = column - line.chars().count();
            line += &" ".repeat(blanks);
            line.push(*letter);
        }
        line
    }
}

fn axes(out: &mut String, x: &Axis, y: &Axis) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in x.ticks() {
        let at = x.at(tick);
        stroke(out, [at, TOP, at, bottom], "#e6e6e6");
        label(out, at, bottom + 18.0, "middle", "fill=\"#444\"", &x.label(tick));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        stroke(out, [LEFT, at, right, at], "#e6e6e6");
        label(out, LEFT - 8.0, at + 4.0, "end", "fill=\"#444\"", &y.label(tick));
    }
    stroke(out, [LEFT, bottom, right, bottom], "#444");
    stroke(out, [LEFT, TOP, LEFT, bottom], "#444");
    let (middle, halfway) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
    label(out, middle, HEIGHT - 16.0, "middle", "", "KL from the reference, nats per completion");
    let turned = format!("transform=\"rotate(-90 18 {halfway:.1})\"");
    label(out, 18.0, halfway, "middle", &turned, "mean reward, 95 % interval");
}

fn line(out: &mut String, members: &[&Point], x: &Axis, y: &Axis, colour: &str) {
    if members.len() < 2 {
        return;
    }
    let places: Vec<_> =
        members.iter().map(|p| format!("{:.1},{:.1}", x.at(p.x), y.at(p.y))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.45\"/>",
        places.join(" ")
    );
}

fn marker(out: &mut String, point: &Point, x: f64, y: f64, axis: &Axis, colour: &str) {
    if point.half_interval > 0.0 {
        let ends = [-1.0, 1.0].map(|sign| axis.at(point.y + sign * point.half_interval));
        stroke(out, [x, ends[0], x, ends[1]], colour);
        for end in ends {
            stroke(out, [x - 4.0, end, x + 4.0, end], colour);
        }
    }
    dot(out, x, y, point.baseline, colour);
    // A label at the right edge would run into the legend.
    let (aside, anchor) = if x > WIDTH - RIGHT - 90.0 { (-8.0, "end") } else { (8.0, "start") };
    let words = point.within_family();
    label(out, x + aside, y - 7.0, anchor, "font-size=\"11\" fill=\"#444\"", words);
}

/// A disc, or for a baseline a hollow diamond.
fn dot(out: &mut String, x: f64, y: f64, hollow: bool, colour: &str) {
    let _ = if hollow {
        writeln!(
            out,
            "<path d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\" fill=\"white\" stroke=\"{colour}\" \
             stroke-width=\"1.5\"/>",
            y - 6.0
        )
    } else {
        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>")
    };
}

fn stroke(out: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn label(out: &mut String, x: f64, y: f64, anchor: &str, more: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String = words.chars().filter(|letter| !letter.is_control()).collect();
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{words}</text>"
    );
}

/// Values to places, with round ticks.
struct Axis {
    low: f64,
    step: f64,
    steps: u32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // One value alone still needs an axis with an extent.
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let step = round_step(span / 5.0);
        let low = (low / step).floor() * step;
        let mut steps = 1;
        while low + step * f64::from(steps) < high - 1e-9 * step && steps < 20 {
            steps += 1;
        }
        Self { low, step, steps, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.step * f64::from(self.steps));
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|i| self.low + self.step * f64::from(i))
    }

    fn label(&self, tick: f64) -> String {
        let places = (0_u8..9).find(|&places| {
            let scaled = self.step * 10_f64.powi(places.into());
            (scaled - scaled.round()).abs() < 1e-6
        });
        // Adding steps may leave a hair's breadth below zero.
        let tick = if tick.abs() < 1e-9 * self.step { 0.0 } else { tick };
        format!("{tick:.*}", usize::from(places.unwrap_or(9)))
    }
}

/// The least of 1, 2, 5 times a power of ten that is no less than `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, x: f64, y: f64, half_interval: f64) -> Point {
        Point { name: name.to_owned(), x, y, half_interval, baseline: name == "sft" }
    }

    fn example() -> Vec<Point> {
        vec![
            point("sft", 0.0, 0.42, 0.05),
            point("dpo[beta=0.05]", 9.5, 1.31, 0.06),
            point("dpo[beta=0.1]", 5.2, 1.12, 0.05),
            point("dpo[beta=0.5]", 1.4, 0.7, 0.05),
            point("ppo[kl=0.05]", 4.0, 1.21, 0.04),
            point("ppo[kl=0.2]", 2.0, 0.95, 0.05),
        ]
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let axis = Axis::over([0.0, 9.5].into_iter(), 0.0, 100.0);
        let labels: Vec<_> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(labels, ["0", "2", "4", "6", "8", "10"]);
        let axis = Axis::over([-0.13, 0.21].into_iter(), 0.0, 100.0);
        let labels: Vec<_> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(labels, ["-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]);
    }

    #[test]
    fn nothing_one_point_and_strange_names_are_drawn_too() {
        assert!(svg("none", &[]).ends_with("</svg>\n"));
        let one = svg("a < b & c", &[point("<x>", 3.0, 2.0, 0.0)]);
        assert!(one.contains("a &lt; b &amp; c") && one.contains("&lt;x&gt;"));
        assert!(!one.contains("NaN") && !one.contains("inf"));
    }

    #[test]
    fn the_plot_in_letters_shows_every_point_with_its_interval() {
        insta::assert_snapshot!(text(&example()[..3]));
        assert!(text(&[]).lines().count() > 10);
    }

    #[test]
    fn every_point_and_family_is_there() {
        let drawn = svg("Frontier", &example());
        assert_eq!(drawn.matches("<circle").count(), 5 + 2);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        for words in ["beta=0.05", "sft (baseline)", ">ppo<", "nats"] {
            assert!(drawn.contains(words), "{words}");
        }
        if let Some(path) = std::env::var_os("GRADUS_SHOW_PLOT") {
            std::fs::write(path, drawn).unwrap();
        }
    }
}
