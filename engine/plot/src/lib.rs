//! Figures, described once and drawn three ways: as SVG, as PNG, and in letters for a terminal.
//!
//! A [`Figure`] says what is shown, not how. All that is drawn is a function of the figure alone, to the byte:
//! the font is part of the program. Colours are told apart by people who see colours in any way, and shapes
//! and names say the same again.

mod axis;
mod error;
mod figure;
mod font;
mod legend;
mod letters;
mod picture;
mod places;
mod plan;

#[cfg(test)]
mod tests;

pub use error::PlotError;
pub use figure::{Figure, Level, Look, Point, Series};
