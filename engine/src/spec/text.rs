//! The texts that a pipeline is read from.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{bounds::LARGEST_TEXT, mistake::Problem};

/// Texts by the path of their file, as they once were: they stand in place of what the files hold now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(BTreeMap<PathBuf, String>);

impl Texts {
    pub(super) fn insert(&mut self, path: &Path, text: &str) {
        self.0.insert(real(path), text.to_owned());
    }

    pub(super) fn read(&self, path: &Path) -> Result<String, Problem> {
        self.0.get(&real(path)).cloned().map_or_else(|| bounded_text(path), Ok)
    }
}

/// However the file is named, and whether it is still there.
fn real(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.canonicalize().unwrap_or_else(|_| absolute())
}

/// The text of a file that a person named. A huge one is not read to its end.
fn bounded_text(path: &Path) -> Result<String, Problem> {
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
