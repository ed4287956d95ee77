//! Work that waits for the disk.

use crate::error::RunError;

/// Runs file work away from the threads that drive events.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RunError::Setup(format!("a thread of gradus itself failed: {error}"))),
    }
}
