//! The global option `--format`.

use clap::ValueEnum;

/// For whom results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one JSON value, or for `run` one per line
    Json,
    /// Of a table alone: comma-separated values
    Csv,
}
