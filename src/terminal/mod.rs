//! All that is printed, for people or for programs. The one room where printing is allowed.
//!
//! Results go to stdout; progress and complaints to stderr. Bars and colours only on a terminal, and no
//! colours where `NO_COLOR` is set.

mod chart;
mod diagnostics;
mod explanation;
mod figures;
mod format;
mod lineage;
mod listing;
mod live;
mod paint;
mod report;
mod results;
mod runs;
mod screen;
mod sharing;
mod streams;
mod sweeping;
mod table;
mod tested;
mod width;

pub(crate) use chart::{Curve, Drawing};
pub(crate) use format::Format;
pub(crate) use paint::duration as in_words;
pub(crate) use screen::Terminal;
