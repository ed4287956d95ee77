//! What can go wrong in the cache. Lost or damaged entries are not here: they are misses.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::Digest;

#[derive(Debug, Error)]
pub enum CacheError {
    #[error("could not {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` says `{found}`: the cache was made by another version of gradus", path.display())]
    Format { path: PathBuf, found: String },
    #[error("`{}` is a symbolic link: put the file itself there", path.display())]
    Symlink { path: PathBuf },
    #[error("`{}` is neither a file nor a folder", path.display())]
    Special { path: PathBuf },
    #[error("`{}` has a name that is not UTF-8", path.display())]
    Name { path: PathBuf },
    #[error("`{}` changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("`{}` holds more than {most} files", path.display())]
    TooMany { path: PathBuf, most: usize },
    #[error("the manifest {digest} is not sound: {why}")]
    Manifest { digest: Digest, why: String },
    #[error("{digest} is not in the cache")]
    Missing { digest: Digest },
    #[error("`{}` is there already", path.display())]
    Exists { path: PathBuf },
    #[error("could not write the record of an action")]
    Record(#[source] serde_json::Error),
}

pub(crate) trait IoContext<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, CacheError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, CacheError> {
        self.map_err(|source| CacheError::Io { doing, path: path.to_owned(), source })
    }
}
