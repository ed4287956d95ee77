//! What is shown, apart from how it is drawn.

/// A picture with two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub title: String,
    /// What stands along the horizontal axis, with its unit.
    pub x: String,
    /// What stands along the vertical axis, with its unit.
    pub y: String,
    /// Says whether the horizontal axis begins no later than at 0.
    pub from_zero: bool,
    pub series: Vec<Series>,
    pub level: Option<Level>,
}

/// Points that belong together: they have one colour, and one line joins them.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    /// In the order in which a line joins them.
    pub points: Vec<Point>,
    pub look: Look,
}

/// How a series looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A line through many points, of which none stands out.
    Curve,
    /// A mark for every point, and a line through them.
    Path,
    /// A mark for every point.
    Marks,
    /// The same, hollow: what others are compared with.
    Hollow,
}

/// A place in the plane. What is not finite is a gap in a curve, and else left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Bounds of `y`.
    pub interval: Option<(f64, f64)>,
    /// Within its series; empty where the series' name says it.
    pub name: String,
}

/// A value of `y` that has no place along `x`.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    pub name: String,
    pub y: f64,
}

impl Figure {
    /// All points that can be drawn, each with the place of its series.
    pub(crate) fn points(&self) -> impl Iterator<Item = (usize, &Point)> {
        let all = self.series.iter().enumerate();
        let all = all.flat_map(|(at, series)| series.points.iter().map(move |point| (at, point)));
        all.filter(|(_, point)| point.x.is_finite() && point.y.is_finite())
    }
}

/// Text from elsewhere, without what could steer a terminal or break a file.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
