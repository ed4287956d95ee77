//! The text of a file.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use super::{bounds::LARGEST_TEXT, mistake::Problem};

/// The text of a file that a person named. A huge one is not read to its end.
pub(super) fn bounded_text(path: &Path) -> Result<String, Problem> {
    let name = || path.display().to_string();
    let unreadable = |why: &str| Problem::Unreadable { path: name(), why: why.to_owned() };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            Problem::MissingFile { path: name(), relative_to: "the folder you are in".to_owned() }
        }
        ErrorKind::IsADirectory => unreadable("it is a folder"),
        _ => unreadable(&error.to_string()),
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_TEXT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LARGEST_TEXT {
        return Err(unreadable("it is larger than a mebibyte, and a pipeline only names its data"));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text"))
}
