//! Where everything in a picture goes, before any of it is drawn.
//!
//! Coordinates are pixels of the SVG; the PNG has `scale` of them for each.

use plotters::{
    coord::ranged1d::Ranged,
    style::{FontDesc, IntoFont},
};

use crate::{
    Figure, Look, PlotError, Point,
    axis::{Axis, axes},
    figure::plain,
    font,
    legend::{self, Legend},
    places::{Area, places},
};

pub(crate) const PLOT: Area = Area { left: 84, top: 52, right: 644, bottom: 420 };
pub(crate) const HEIGHT: i32 = 474;
/// Left of what stands along the vertical axis.
pub(crate) const MARGIN: i32 = 14;
pub(crate) const SMALL: i32 = 14;
/// Half of a mark's width.
pub(crate) const MARK: i32 = 5;
/// With more points than these, names stand in the legend and numbers beside the points.
const MOST_NAMES: usize = 12;
const NEAR: i32 = 24;
const FAR: i32 = 120;

/// A name or a number that should stand beside a point.
#[derive(Clone)]
struct Wanted {
    words: String,
    series: usize,
    point: (i32, i32),
}

/// One that has found its place.
pub(crate) struct Label {
    pub(crate) words: String,
    pub(crate) series: usize,
    pub(crate) point: (i32, i32),
    pub(crate) area: Area,
}

/// Where everything goes, in scaled pixels.
pub(crate) struct Plan<'a> {
    pub(crate) figure: &'a Figure,
    pub(crate) scale: i32,
    /// How much lower text must be drawn to lie in the middle: the bitmap's lies above it.
    pub(crate) sink: i32,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) legend: Legend,
    pub(crate) labels: Vec<Label>,
}

impl<'a> Plan<'a> {
    pub(crate) fn of(figure: &'a Figure, scale: i32, sink: i32) -> Result<Self, PlotError> {
        let (x, y) = axes(figure);
        let legend = Legend { entries: Vec::new(), width: 0 };
        let mut plan = Self { figure, scale, sink, x, y, legend, labels: Vec::new() };
        let marked = figure.points().filter(|(at, _)| figure.series[*at].look != Look::Curve);
        let points: Vec<_> = marked.collect();
        let wanted = |numbered: bool| -> Vec<Wanted> {
            let one = |(number, (series, point)): (usize, &(usize, &Point))| Wanted {
                words: if numbered { (number + 1).to_string() } else { plain(&point.name) },
                series: *series,
                point: plan.place(point.x, point.y),
            };
            let all = points.iter().enumerate().map(one);
            all.filter(|label| !label.words.is_empty()).collect()
        };
        let names = wanted(false);
        let mut direct = None;
        if names.len() <= MOST_NAMES {
            // Rather not across a line, if there is a choice.
            let all = names.len();
            let clear = plan.beside(names.clone(), NEAR, &plan.along_lines())?;
            let clear = Some(clear).filter(|found| found.len() == all);
            let any = if clear.is_none() { Some(plan.beside(names, NEAR, &[])?) } else { None };
            direct = clear.or(any.filter(|found| found.len() == all));
        }
        let numbered = direct.is_none();
        plan.labels = match direct {
            Some(labels) => labels,
            None => plan.beside(wanted(true), FAR, &[])?,
        };
        plan.legend = legend::of(figure, numbered, |text| plan.text_size(text).map(|it| it.0))?;
        Ok(plan)
    }

    /// Words with places beside their points; without those that find none.
    fn beside(
        &self,
        mut wanted: Vec<Wanted>,
        furthest: i32,
        avoided: &[Area],
    ) -> Result<Vec<Label>, PlotError> {
        // From top to bottom, so that labels of points that stand close follow each other as they do.
        wanted.sort_by_key(|label| (label.point.1, label.point.0));
        let mark = MARK * self.scale;
        let mut taken = avoided.to_vec();
        for (_, point) in self.figure.points() {
            let at = self.place(point.x, point.y);
            taken.push(Area::around(at, mark, mark));
            if let Some((low, high)) = point.interval {
                let [top, bottom] = [high, low].map(|y| self.place(point.x, y).1);
                let (left, right) = (at.0 - mark / 2, at.0 + mark / 2);
                taken.push(Area { left, top, right, bottom });
            }
        }
        let sizes = wanted.iter().map(|label| self.text_size(&label.words));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        let points: Vec<_> = wanted.iter().map(|label| label.point).collect();
        let found = places(&points, &sizes, &taken, &self.plot(), furthest * self.scale);
        let label = |(Wanted { words, series, point }, area): (Wanted, Option<Area>)| {
            area.map(|area| Label { words, series, point, area })
        };
        Ok(wanted.into_iter().zip(found).filter_map(label).collect())
    }

    /// Small areas along the lines of paths, and the level.
    fn along_lines(&self) -> Vec<Area> {
        let mut areas = Vec::new();
        let size = 2 * self.scale;
        for series in self.figure.series.iter().filter(|it| it.look == Look::Path) {
            for pair in series.points.windows(2) {
                let [from, to] = [0, 1].map(|i| self.place(pair[i].x, pair[i].y));
                let count = ((to.0 - from.0).abs().max((to.1 - from.1).abs()) / size).max(1);
                let part = |from: i32, to: i32, i: i32| from + (to - from) * i / count;
                areas.extend((0..=count).map(|i| {
                    Area::around((part(from.0, to.0, i), part(from.1, to.1, i)), size, size)
                }));
            }
        }
        areas.extend(self.figure.level.iter().map(|level| {
            let y = self.place(0.0, level.y).1;
            Area { top: y - size, bottom: y + size, ..self.plot() }
        }));
        areas
    }

    pub(crate) fn plot(&self) -> Area {
        let Area { left, top, right, bottom } = PLOT;
        let [left, top, right, bottom] = [left, top, right, bottom].map(|at| at * self.scale);
        Area { left, top, right, bottom }
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        let beside = if self.legend.entries.is_empty() { 24 } else { 44 };
        let width = (PLOT.right + beside) * self.scale + self.legend.width;
        let lines = i32::try_from(self.legend.entries.len()).unwrap_or(i32::MAX / 100);
        let height = HEIGHT.max(PLOT.top + lines * legend::LINE + 20) * self.scale;
        (width.unsigned_abs(), height.unsigned_abs())
    }

    pub(crate) fn place(&self, x: f64, y: f64) -> (i32, i32) {
        let plot = self.plot();
        (self.x.map(&x, (plot.left, plot.right)), self.y.map(&y, (plot.bottom, plot.top)))
    }

    pub(crate) fn font(&self, size: i32) -> FontDesc<'static> {
        (font::FAMILY, size * self.scale).into_font()
    }

    fn text_size(&self, text: &str) -> Result<(i32, i32), PlotError> {
        let found = self.font(SMALL).layout_box(text);
        let ((left, top), (right, bottom)) =
            found.map_err(|error| PlotError::Drawing(error.to_string()))?;
        Ok((right - left + 2 * self.scale, bottom - top + 2 * self.scale))
    }
}
