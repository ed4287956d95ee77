//! What can go wrong in the cache. Lost or damaged entries are not here: they are misses.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::Digest;

/// What to do when the disk is full.
pub const MAKE_SPACE: &str = "Make space (`gradus sweep --older-than 30d` says what the cache could do without), or name another cache with `--cache`";

#[derive(Debug, Error)]
pub enum CacheError {
    #[error("could not {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("could not {doing} `{}`: its disk is full. {MAKE_SPACE}", path.display())]
    Full { doing: &'static str, path: PathBuf },
    #[error(
        "could not {doing} `{}`: it lies in a cache that is read-only. Make that writable, or name another with `--cache`",
        path.display()
    )]
    ReadOnly { doing: &'static str, path: PathBuf },
    #[error(
        "`{}` says `{found}`, not `{wanted}`: the cache is damaged or was made by another version of gradus. Name another with `--cache`; or delete this one, which costs only the work in it",
        path.display()
    )]
    Format { path: PathBuf, found: String, wanted: &'static str },
    #[error("`{}` is a symbolic link: put the file itself there", path.display())]
    Symlink { path: PathBuf },
    #[error("`{}` is neither a file nor a folder", path.display())]
    Special { path: PathBuf },
    #[error("`{}` has a name that is not UTF-8", path.display())]
    Name { path: PathBuf },
    #[error("`{}` cannot be kept: {why}", path.display())]
    Unkept { path: PathBuf, why: String },
    #[error("`{}` has nothing in it but what its `.gitignore` leaves out", path.display())]
    AllIgnored { path: PathBuf },
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
        #[cfg(test)]
        let done = crate::faults::strike(self);
        #[cfg(not(test))]
        let done = self;
        done.map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    CacheError::Full { doing, path }
                }
                ErrorKind::ReadOnlyFilesystem => CacheError::ReadOnly { doing, path },
                _ => CacheError::Io { doing, path, source },
            }
        })
    }
}
