//! From rows to token ids, by TRL's rules: what a loss sees is decided here and nowhere else.
//!
//! `rows.rs` has the rules for one row, `packing.rs` puts short rows together. Pure functions;
//! the `oracle_*` tests hold them to what TRL itself makes of the same rows.

pub(crate) mod examples;
pub(crate) mod packing;
pub(crate) mod rows;
pub(crate) mod tally;
pub(crate) mod truncation;
