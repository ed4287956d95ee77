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

impl Figure {
    /// Draws it as SVG.
    pub fn svg(&self) -> Result<String, PlotError> {
        picture::svg(self)
    }

    /// Draws it as PNG, at twice the size of the SVG.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        picture::png(self)
    }

    /// Draws it in letters, at most 80 a line but for names that are longer.
    pub fn letters(&self) -> String {
        letters::draw(self)
    }
}
