//! A figure as SVG and as PNG, drawn by one function on two backends.
//!
//! Coordinates are pixels of the SVG; the PNG has `scale` of them for each.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    Figure, Look, PlotError, Point,
    figure::plain,
    font,
    legend::{self, Entry},
    plan::{HEIGHT, Label, MARGIN, MARK, PLOT, Plan, SMALL},
};

const TITLE: i32 = 19;
const PNG_SCALE: i32 = 2;
const PNG_SINK: i32 = 4;
/// Told apart by people who see colours in any way (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
const GRID: RGBColor = RGBColor(230, 230, 230);
const DARK: RGBColor = RGBColor(68, 68, 68);

fn colour(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}

/// The same for text, whose thin strokes need more contrast.
fn ink(series: usize) -> RGBColor {
    let RGBColor(r, g, b) = colour(series);
    RGBColor(r / 4 * 3, g / 4 * 3, b / 4 * 3)
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

pub(crate) fn svg(figure: &Figure) -> Result<String, PlotError> {
    font::ready()?;
    let plan = Plan::of(figure, 1, 0)?;
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, plan.size()).into_drawing_area();
    let drawn = plan.draw(&root).and_then(|()| root.present());
    drawn.map_err(|error| PlotError::Drawing(error.to_string()))?;
    drop(root);
    Ok(text)
}

pub(crate) fn png(figure: &Figure) -> Result<Vec<u8>, PlotError> {
    font::ready()?;
    let plan = Plan::of(figure, PNG_SCALE, PNG_SINK)?;
    let (width, height) = plan.size();
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    let drawn = plan.draw(&root).and_then(|()| root.present());
    drawn.map_err(|error| PlotError::Drawing(error.to_string()))?;
    drop(root);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

impl Plan<'_> {
    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        root.fill(&WHITE)?;
        let scale = self.scale;
        let title = TextStyle::from(self.font(TITLE)).color(&BLACK);
        root.draw(&Text::new(plain(&self.figure.title), (PLOT.left * scale, 16 * scale), title))?;
        self.draw_axes(root)?;
        if let Some(level) = &self.figure.level {
            let y = self.place(0.0, level.y).1;
            self.dashes(root, (self.plot().left, self.plot().right), y)?;
        }
        for (index, series) in self.figure.series.iter().enumerate() {
            let colour = colour(index);
            let curve = series.look == Look::Curve;
            let style = colour.mix(if curve { 1.0 } else { 0.45 }).stroke_width(self.thick());
            if !matches!(series.look, Look::Marks | Look::Hollow) {
                let joined = |it: &[Point]| -> Vec<(i32, i32)> {
                    it.iter().map(|point| self.place(point.x, point.y)).collect()
                };
                let sound = |it: &Point| it.x.is_finite() && it.y.is_finite();
                for part in series.points.split(|point| !sound(point)).filter(|it| it.len() > 1) {
                    root.draw(&PathElement::new(joined(part), style))?;
                }
            }
            for point in series.points.iter().filter(|it| it.x.is_finite() && it.y.is_finite()) {
                if let Some((low, high)) = point.interval {
                    self.interval(root, [low, high].map(|y| self.place(point.x, y)), colour)?;
                }
            }
        }
        for (index, point) in self.figure.points() {
            self.mark(root, index, self.place(point.x, point.y))?;
        }
        for label in &self.labels {
            self.label(root, label)?;
        }
        self.draw_legend(root)
    }

    fn thick(&self) -> u32 {
        self.scale.unsigned_abs()
    }

    fn draw_axes<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let scale = self.scale;
        let (width, height) = root.dim_in_pixel();
        let [width, height] = [width, height].map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        let mut chart = ChartBuilder::on(root)
            .margin_top(PLOT.top * scale)
            .margin_right(width - PLOT.right * scale)
            .margin_bottom(height - HEIGHT * scale)
            .margin_left(MARGIN * scale)
            .x_label_area_size((HEIGHT - PLOT.bottom) * scale)
            .y_label_area_size((PLOT.left - MARGIN) * scale)
            .build_cartesian_2d(self.x, self.y)?;
        let text = TextStyle::from(self.font(SMALL)).color(&DARK);
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(self.thick()))
            .light_line_style(TRANSPARENT)
            .axis_style(DARK.stroke_width(self.thick()))
            .label_style(text.clone())
            .axis_desc_style(text.color(&BLACK))
            .x_desc(plain(&self.figure.x))
            .y_desc(plain(&self.figure.y))
            .set_all_tick_mark_size(5 * scale)
            .draw()
    }

    fn dashes<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        (from, to): (i32, i32),
        y: i32,
    ) -> Drawn<DB> {
        let (dash, gap) = (7 * self.scale, 4 * self.scale);
        let mut at = from;
        while at < to {
            let end = (at + dash).min(to);
            let style = DARK.stroke_width(self.thick());
            root.draw(&PathElement::new(vec![(at, y), (end, y)], style))?;
            at = end + gap;
        }
        Ok(())
    }

    fn interval<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        [low, high]: [(i32, i32); 2],
        colour: RGBColor,
    ) -> Drawn<DB> {
        let style = colour.stroke_width(self.thick());
        let cap = 3 * self.scale;
        root.draw(&PathElement::new(vec![low, high], style))?;
        for (x, y) in [low, high] {
            root.draw(&PathElement::new(vec![(x - cap, y), (x + cap, y)], style))?;
        }
        Ok(())
    }

    /// A mark of the series' own shape and colour.
    fn mark<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        series: usize,
        (x, y): (i32, i32),
    ) -> Drawn<DB> {
        let colour = colour(series);
        let r = MARK * self.scale;
        let corners = match (self.figure.series[series].look, series % 4) {
            (Look::Curve, _) => return Ok(()),
            (Look::Hollow, _) => {
                let corners = vec![
                    (x, y - r - r / 4),
                    (x + r + r / 4, y),
                    (x, y + r + r / 4),
                    (x - r - r / 4, y),
                ];
                root.draw(&Polygon::new(corners.clone(), WHITE))?;
                let around = corners.iter().chain(corners.first()).copied();
                let style = colour.stroke_width(2 * self.thick());
                return root.draw(&PathElement::new(around.collect::<Vec<_>>(), style));
            }
            (_, 0) => return root.draw(&Circle::new((x, y), r, colour.filled())),
            (_, 1) => vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
            (_, 2) => vec![(x, y - r - r / 4), (x + r + r / 4, y + r), (x - r - r / 4, y + r)],
            _ => vec![(x - r - r / 4, y - r), (x + r + r / 4, y - r), (x, y + r + r / 4)],
        };
        root.draw(&Polygon::new(corners, colour))
    }

    fn label<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, label: &Label) -> Drawn<DB> {
        let (area, (x, y)) = (&label.area, label.point);
        // A label further away than others are needs a line to its point.
        let near = (x.clamp(area.left, area.right), y.clamp(area.top, area.bottom));
        let far = (near.0 - x).abs().max((near.1 - y).abs());
        if far > 10 * self.scale {
            let style = DARK.mix(0.6).stroke_width(self.thick());
            root.draw(&PathElement::new(vec![(x, y), near], style))?;
        }
        self.coloured(root, &label.words, (area.centre(), HPos::Center), ink(label.series))
    }

    fn text<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        words: &str,
        at: (i32, i32),
        side: HPos,
    ) -> Drawn<DB> {
        self.coloured(root, words, (at, side), BLACK)
    }

    fn coloured<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        words: &str,
        ((x, y), side): ((i32, i32), HPos),
        colour: RGBColor,
    ) -> Drawn<DB> {
        let style = TextStyle::from(self.font(SMALL)).color(&colour);
        let style = style.pos(Pos::new(side, VPos::Center));
        root.draw(&Text::new(words.to_owned(), (x, y + self.sink), style))
    }

    fn draw_legend<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let left = (PLOT.right + 24) * self.scale;
        let mut y = (PLOT.top + 6) * self.scale;
        for entry in &self.legend.entries {
            match entry {
                Entry::Series { index, words } => {
                    let at = (left, y);
                    if self.figure.series[*index].look == Look::Curve {
                        let (from, to) = ((left - 9 * self.scale, y), (left + 9 * self.scale, y));
                        let colour = colour(*index);
                        let style = colour.stroke_width(2 * self.thick());
                        root.draw(&PathElement::new(vec![from, to], style))?;
                    }
                    self.mark(root, *index, at)?;
                    self.text(root, words, (left + 14 * self.scale, y), HPos::Left)?;
                }
                Entry::Point { number, words } => {
                    let end = left + legend::INDENT * self.scale;
                    self.text(root, &number.to_string(), (end - 6 * self.scale, y), HPos::Right)?;
                    self.text(root, words, (end, y), HPos::Left)?;
                }
                Entry::Level { words } => {
                    self.dashes(root, (left - 9 * self.scale, left + 9 * self.scale), y)?;
                    self.text(root, words, (left + 14 * self.scale, y), HPos::Left)?;
                }
            }
            y += legend::LINE * self.scale;
        }
        Ok(())
    }
}
