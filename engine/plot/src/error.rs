//! Why a figure could not be drawn.

use thiserror::Error;

/// Why a figure could not be drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The font or the drawing library refused.
    #[error("the figure cannot be drawn: {0}")]
    Drawing(String),
    #[error("the figure cannot be written as PNG")]
    Png(#[from] png::EncodingError),
}
