//! What every reader makes of a file, and what all of them ask of its bytes and names.

use serde_json::Value;

use crate::artifact::json;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Value(Value),
    /// What JSON has no word for, in words.
    Foreign(&'static str),
}

impl Cell {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Value(value) => json::kind(value),
            Self::Foreign(kind) => kind,
        }
    }
}

/// One row of a file, with every column once. Its place is the line it begins in; in Parquet, its number
/// from 1.
pub(crate) struct Record {
    pub(crate) place: u64,
    pub(crate) cells: Vec<(String, Cell)>,
}

/// A record, or the place and the reason why there is none.
pub(crate) type Records = Box<dyn Iterator<Item = Result<Record, (u64, String)>>>;

/// Bytes as text, or why they are none.
pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        format!(
            "not UTF-8 text (the byte 0x{byte:02X} at {}): convert the file, from Windows-1252 say \
             with `iconv -f WINDOWS-1252 -t UTF-8`",
            at + 1
        )
    })
}

/// The first name that stands there twice.
pub(super) fn twice(names: &[String]) -> Option<&String> {
    let mut seen = std::collections::HashSet::new();
    names.iter().find(|name| !seen.insert(*name))
}
