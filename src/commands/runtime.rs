//! Threads to run on, and the requests to end that come from outside.

use tokio::signal::unix::{Signal, SignalKind, signal};

use gradus_engine::run::RunError;

use crate::failure::Failure;

/// The requests to end that come from outside. None is lost between two that listen.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: End,
}

/// The requests that nobody repeats: of a system that shuts down, and of a terminal that is closed.
pub(super) struct End {
    terminate: Signal,
    /// `None` where whoever started us has it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl End {
    pub(super) async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => _ = hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            () = hangup => {}
        }
    }
}

/// Whether a hang-up was ignored when we were started.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|it| it & 1 == 1)
}

/// Does `work` with threads to run on, while signals are heard.
pub(super) fn in_runtime<T>(
    work: impl AsyncFnOnce(&mut Signals) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| RunError::Setup(format!("no threads to run with: {error}")))?;
    let done = runtime.block_on(async {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| RunError::Setup(format!("signals cannot be heard: {error}")))
        };
        let interrupt = listen(SignalKind::interrupt())?;
        let terminate = listen(SignalKind::terminate())?;
        let hangup = if ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
        work(&mut Signals { interrupt, terminate: End { terminate, hangup } }).await
    });
    // What still runs then is a reader of a dead process: nothing to wait for.
    runtime.shutdown_background();
    done
}
