//! Why a stage gave up: the one error of the worker.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a stage gave up. The words are for whoever wrote the pipeline.
#[derive(Debug, Error)]
pub(crate) enum StageError {
    /// The input or the numbers are at fault; says where, why and what to do.
    #[error("{0}")]
    Refused(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{}", first_line(.0))]
    Tensor(#[from] tch::TchError),
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl StageError {
    pub(crate) fn refused(words: impl Into<String>) -> Self {
        Self::Refused(words.into())
    }

    /// Names the file that an I/O error is about.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// libtorch's message without the C++ stack that follows it.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
