//! Why a command ended early, and whose fault that is.

use gradus_cache::CacheError;
use gradus_engine::{run::RunError, spec::Mistakes};

#[derive(Debug)]
pub(crate) enum Failure {
    /// The pipeline is at fault: exit code 1.
    Mistakes(Mistakes),
    /// What was asked for is not there, or a stage failed: exit code 1.
    Refused { message: String, help: Option<String> },
    /// Gradus could not work: exit code 2.
    Engine(RunError),
}

impl Failure {
    pub(crate) fn refused(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: Some(help.into()) }
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Mistakes(mistakes)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Engine(error)
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Engine(RunError::Cache(error))
    }
}
