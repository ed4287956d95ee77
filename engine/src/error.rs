//! Why the engine could not work.

use std::path::PathBuf;

use gradus_cache::CacheError;
use gradus_remote::OpenError;
use thiserror::Error;

/// Why the engine itself could not work, or one stage could not.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Remote(#[from] OpenError),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Setup(String),
    /// The stage's own fault, or its worker's; ends that stage alone.
    #[error("{0}")]
    Stage(String),
    /// The worker or the program died: another try may go well.
    #[error("{0}")]
    Died(String),
    #[error("it was not done within its `timeout` of {0:?}: give it more time")]
    TimedOut(std::time::Duration),
    /// A sweep was quicker than the run, or a person deleted it.
    #[error("what {names} put out is gone from the cache; run again to compute it anew")]
    Vanished { sources: Vec<usize>, names: String },
    #[error("cancelled")]
    Cancelled,
    #[error("the file `{}` changed while the stage read it; run again", .0.display())]
    Changed(PathBuf),
}

impl RunError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the same stage could go well another time.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Died(_) | Self::TimedOut(_))
    }

    /// Whether gradus, or the machine, is at fault and no stage.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Setup(_) | Self::Cache(CacheError::Full { .. } | CacheError::ReadOnly { .. })
        )
    }

    /// The words with their causes.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
