//! The one font, which is part of the program: a picture hangs on no font of the machine.
//!
//! An SVG has its text as text; a viewer may show another sans-serif face, hardly any of which is wider.

use std::sync::OnceLock;

use plotters::style::{FontStyle, register_font};

use crate::PlotError;

pub(crate) const FAMILY: &str = "sans-serif";

/// Makes the font known to the drawing library, once.
pub(crate) fn ready() -> Result<(), PlotError> {
    static SOUND: OnceLock<bool> = OnceLock::new();
    let register = || register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular()).is_ok();
    let sound = SOUND.get_or_init(register);
    if *sound { Ok(()) } else { Err(PlotError::Drawing("its font is not sound".to_owned())) }
}
