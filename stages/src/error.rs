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
    #[error("{}", plain(&.0.to_string()))]
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

/// What libtorch says, without its stack, and what to do where memory is short.
pub(crate) fn plain(message: &str) -> String {
    let words = without_frames(message);
    let is_short = ["out of memory", "can't allocate memory"].iter().any(|it| words.contains(it));
    if !is_short {
        return words;
    }
    // What follows is of the allocator's insides, and counsel for programmers of `PyTorch`.
    let end = words.find(" GPU ").unwrap_or(words.len());
    format!(
        "{}; fewer rows at once need less: a smaller `micro_batch` of a training changes no result, nor does \
         `batch` of an evaluation",
        words[..end].trim_end_matches('.')
    )
}

/// A message of libtorch without the C++ stack that follows it, whether its lines are ended or written out.
fn without_frames(message: &str) -> String {
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
    fn who_runs_out_of_memory_hears_what_needs_less() {
        let failed = tch::Tensor::f_empty([1 << 44], (tch::Kind::Double, tch::Device::Cpu));
        let words = StageError::from(failed.unwrap_err()).to_string();
        assert!(words.contains("a smaller `micro_batch`"), "{words}");
        let words = plain(
            "Internal torch error: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total \
             capacity of 79.18 GiB of which 1 GiB is free.",
        );
        assert!(
            words.starts_with("CUDA out of memory. Tried to allocate 2.00 GiB; fewer"),
            "{words}"
        );
    }

    #[test]
    fn no_frames_of_the_stack_reach_a_person() {
        let failed =
            tch::Tensor::from_slice(&[1_f32]).f_index_select(0, &tch::Tensor::from_slice(&[9_i64]));
        let error = failed.unwrap_err();
        let words = StageError::from(error).to_string();
        assert!(
            words.starts_with("index") && words.len() < 200 && !words.contains("frame"),
            "{words}"
        );
        let panic = std::panic::catch_unwind(|| {
            tch::Tensor::from_slice(&[1_f32]).index_select(0, &tch::Tensor::from_slice(&[9_i64]))
        });
        let words = panic.unwrap_err().downcast_ref::<String>().unwrap().clone();
        let words = plain(&words);
        assert!(
            words.starts_with("index") && words.len() < 200 && !words.contains("frame"),
            "{words}"
        );
    }
}
