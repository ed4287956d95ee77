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
    #[error("{}", without_frames(&.0.to_string()))]
    Tensor(#[from] tch::TchError),
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl StageError {
    pub(crate) fn refused(words: impl Into<String>) -> Self {
        Self::Refused(words.into())
    }

    /// Says whom it is about, before all else.
    pub(crate) fn about(self, whom: &str) -> Self {
        match self {
            Self::Refused(words) => Self::Refused(format!("{whom}: {words}")),
            other => other,
        }
    }

    /// Names the file that an I/O error is about.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// A message of libtorch without the C++ stack that follows it, whether its lines are ended or written out.
pub(crate) fn without_frames(message: &str) -> String {
    let message =
        message.strip_prefix("called `Result::unwrap()` on an `Err` value: ").unwrap_or(message);
    let message = ["Torch(\"", "Internal torch error: "]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .unwrap_or(message);
    let end =
        ["\n", "\\n", "Exception raised from"].iter().filter_map(|end| message.find(end)).min();
    message[..end.unwrap_or(message.len())].trim_end_matches(['"', ')', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frames_of_the_stack_reach_a_person() {
        let failed =
            tch::Tensor::from_slice(&[1_f32]).f_index_select(0, &tch::Tensor::from_slice(&[9_i64]));
        let error = failed.unwrap_err();
        let plain = StageError::from(error).to_string();
        assert!(
            plain.starts_with("index") && plain.len() < 200 && !plain.contains("frame"),
            "{plain}"
        );
        let panic = std::panic::catch_unwind(|| {
            tch::Tensor::from_slice(&[1_f32]).index_select(0, &tch::Tensor::from_slice(&[9_i64]))
        });
        let words = panic.unwrap_err().downcast_ref::<String>().unwrap().clone();
        let words = without_frames(&words);
        assert!(
            words.starts_with("index") && words.len() < 200 && !words.contains("frame"),
            "{words}"
        );
    }
}
