//! Curves of one metric as a figure.

use gradus_engine::run::Points;
use gradus_plot::{Figure, Look, Point, Series};

/// A curve and its name.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) run: String,
    pub(crate) metric: String,
    pub(crate) points: Points,
}

/// Curves of one metric, or of several, over their steps.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) title: String,
    pub(crate) metric: String,
    pub(crate) curves: Vec<Curve>,
}

impl Drawing {
    pub(crate) fn figure(&self) -> Figure {
        Figure {
            title: self.title.clone(),
            x: "step".to_owned(),
            y: self.metric.clone(),
            from_zero: false,
            series: self.curves.iter().map(series).collect(),
            level: None,
        }
    }
}

fn series(curve: &Curve) -> Series {
    let point = |(step, value): &(u64, Option<f64>)| Point {
        x: *step as f64,
        // A step without a value is a gap.
        y: value.unwrap_or(f64::NAN),
        interval: None,
        name: String::new(),
    };
    let points = curve.points.iter().map(point).collect();
    Series { name: curve.name.clone(), points, look: Look::Curve }
}
