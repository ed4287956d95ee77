//! What stays of a row that is too long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which end of a row that is too long stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Truncation {
    /// The start stays, the end goes.
    #[default]
    KeepStart,
    /// The end stays, the start goes.
    KeepEnd,
}

impl Truncation {
    /// The part of `all` that stays when `most` do.
    pub(crate) fn cut<T>(self, all: &[T], most: usize) -> &[T] {
        match self {
            Self::KeepStart => &all[..most.min(all.len())],
            Self::KeepEnd => &all[all.len().saturating_sub(most)..],
        }
    }
}

/// What happens to a row that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TooLong {
    /// It is left out.
    Drop,
    /// Its start stays, without its end.
    Cut,
}

impl TooLong {
    /// The default where replies are compared: of cut ones nobody said which is better.
    pub(crate) fn drop() -> Self {
        Self::Drop
    }

    /// The default where replies are imitated: a reply without its end still teaches what it has.
    pub(crate) fn cut() -> Self {
        Self::Cut
    }
}
