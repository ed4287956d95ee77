//! What stands beside a picture: what its series are called, and its points where they have numbers.

use crate::{Figure, Look, PlotError, figure::plain};

/// Pixels from one line to the next.
pub(crate) const LINE: i32 = 19;
/// Where the words of a numbered point begin.
pub(crate) const INDENT: i32 = 34;
/// Longer names are cut.
const WIDEST: usize = 48;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Series { index: usize, words: String },
    Point { number: usize, words: String },
    Level { words: String },
}

pub(crate) struct Legend {
    pub(crate) entries: Vec<Entry>,
    /// In pixels, of the widest entry.
    pub(crate) width: i32,
}

/// The legend of a figure whose points have numbers or names. `width_of` measures text.
pub(crate) fn of(
    figure: &Figure,
    numbered: bool,
    width_of: impl Fn(&str) -> Result<i32, PlotError>,
) -> Result<Legend, PlotError> {
    let entries = entries(figure, numbered);
    let mut width = 0;
    for entry in &entries {
        let (Entry::Series { words, .. } | Entry::Point { words, .. } | Entry::Level { words }) =
            entry;
        width = width.max(width_of(words)? + width_of("0000")?);
    }
    Ok(Legend { entries, width })
}

fn entries(figure: &Figure, numbered: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut number = 0;
    for (index, series) in figure.series.iter().enumerate() {
        let words = cut(&series.name);
        let drawn = series.points.iter().filter(|it| it.x.is_finite() && it.y.is_finite());
        let names: Vec<_> = drawn.map(|point| point.name.as_str()).collect();
        if series.look == Look::Curve || !numbered {
            entries.push(Entry::Series { index, words });
        } else if let [""] = names.as_slice() {
            number += 1;
            entries.push(Entry::Series { index, words: format!("{number}  {words}") });
        } else {
            entries.push(Entry::Series { index, words });
            for name in names {
                number += 1;
                entries.push(Entry::Point { number, words: cut(name) });
            }
        }
    }
    if let Some(level) = &figure.level {
        entries.push(Entry::Level { words: cut(&level.name) });
    }
    let one_curve = matches!(entries.as_slice(), [Entry::Series { .. }])
        && figure.series.iter().all(|series| series.look == Look::Curve);
    if one_curve { Vec::new() } else { entries }
}

fn cut(name: &str) -> String {
    let name = plain(name);
    if name.chars().count() <= WIDEST {
        return name;
    }
    let kept: String = name.chars().take(WIDEST - 1).collect();
    format!("{kept}…")
}
