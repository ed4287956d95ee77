//! Curves as a picture that browsers and papers show.

use std::fmt::Write;

use super::{
    chart::{Curve, Frame, finite},
    paint::number,
};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const TICKS: u8 = 4;
/// Told apart by people who see colours in any way (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The curves in one picture.
pub(super) fn draw(title: &str, curves: &[Curve]) -> String {
    let empty = Frame { steps: (0.0, 1.0), values: (0.0, 1.0) };
    let frame = Frame::around(curves).unwrap_or(empty);
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let legend = if curves.len() > 1 { 18.0 * curves.len() as f64 } else { 0.0 };
    let total = HEIGHT + legend;
    // Writing into a `String` cannot fail.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{total}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let at = |(low, high): (f64, f64)| low * (1.0 - part) + high * part;
        let (x, y) = (LEFT + part * width, TOP + (1.0 - part) * height);
        let (right, bottom) = (LEFT + width, TOP + height);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
            LEFT - 8.0,
            y + 4.0,
            number(at(frame.values)),
            bottom + 18.0,
            at(frame.steps),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>",
        LEFT + width / 2.0,
        TOP + height + 38.0
    );
    for (i, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let places = finite(&curve.points).map(|point| frame.place(point));
        let words =
            places.map(|(x, y)| format!("{:.1},{:.1}", LEFT + x * width, TOP + (1.0 - y) * height));
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            words.collect::<Vec<_>>().join(" ")
        );
        if curves.len() > 1 {
            let y = HEIGHT + 18.0 * i as f64;
            let (end, text) = (LEFT + 20.0, LEFT + 28.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"/>\n<text x=\"{text}\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escaped(&curve.name)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_lines_with_a_legend() {
        let curve = |name: &str, end: f64| Curve {
            name: name.to_owned(),
            points: vec![(1, Some(1.0)), (2, None), (3, Some(end))],
        };
        insta::assert_snapshot!(draw("loss <script>", &[curve("a & b", 0.5), curve("c", 2.0)]));
    }
}
