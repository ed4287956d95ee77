//! What happens to a row that is too long.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to a row that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TooLong {
    /// It is left out.
    Drop,
    /// Its start stays, without its end.
    Cut,
    /// Its end stays, without its start.
    CutStart,
}

impl TooLong {
    // Defaults of parameters.
    pub(crate) fn drop() -> Self {
        Self::Drop
    }

    pub(crate) fn cut() -> Self {
        Self::Cut
    }

    /// Which of `length` tokens stay when `most` may; `None` when the row does not.
    pub(crate) fn kept(self, length: usize, most: usize) -> Option<Range<usize>> {
        match self {
            _ if length <= most => Some(0..length),
            Self::Drop => None,
            Self::Cut => Some(0..most),
            Self::CutStart => Some(length - most..length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_whole_and_of_the_rest_what_was_asked_for() {
        let kept =
            |length| [TooLong::Drop, TooLong::Cut, TooLong::CutStart].map(|it| it.kept(length, 4));
        assert_eq!(kept(4), [Some(0..4), Some(0..4), Some(0..4)]);
        assert_eq!(kept(6), [None, Some(0..4), Some(2..6)]);
    }
}
