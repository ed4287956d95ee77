//! From rows to token ids, by TRL's rules: what a loss sees is decided here and nowhere else.
//!
//! `rows.rs` has the rules for one row, `token_rows.rs` keeps what they make, `examples.rs` fits it to a model,
//! `packing.rs` puts short texts together; the `oracle_*` tests hold all of it to what TRL itself makes of the same rows.

pub(crate) mod examples;
pub(crate) mod labels;
#[cfg(test)]
mod oracle_tests;
pub(crate) mod packing;
pub(crate) mod rows;
pub(crate) mod segments;
pub(crate) mod tally;
pub(crate) mod token_rows;
pub(crate) mod tokenising;
pub(crate) mod truncation;
