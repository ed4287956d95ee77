//! Files that a pipeline names.

use std::path::{Path, PathBuf};

use super::{
    mistake::Problem,
    place::{At, Sources},
};

impl Sources {
    /// The file that `text`, written at `at`, names. Unless the command line names it, it lies in `folder`.
    pub fn file(&self, text: &str, at: At, folder: &Path) -> Result<PathBuf, Problem> {
        let source = self.get(at);
        let Ok(real) = source.base.join(text).canonicalize() else {
            let (path, relative_to) = (text.to_owned(), source.base_in_words());
            return Err(Problem::MissingFile { path, relative_to });
        };
        match folder.canonicalize() {
            _ if source.trusted => Ok(real),
            Ok(folder) if real.starts_with(&folder) => Ok(real),
            _ => Err(Problem::OutsideFolder(text.to_owned())),
        }
    }
}
