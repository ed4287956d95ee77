//! What stays of a row that is too long.

/// Which end of a row that is too long stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
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
