//! The wish that a run end early, and waiting for it.

use std::time::Duration;

use tokio::sync::watch;

/// Between asking a worker or a program to stop and killing it.
pub(crate) const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// Whether a run is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    No,
    /// Ask the workers to stop.
    Gently,
    /// Kill them.
    Now,
}

/// Ends once the run is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop != Stop::No).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ends once the run is to stop at once.
pub(crate) async fn killed(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending::<()>().await;
    }
}
