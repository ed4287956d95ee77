//! The time that one try of a stage may take. Once it is over the stage is stopped as by a Ctrl-C: asked
//! to end, and killed if it does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{error::RunError, run::process::stop::Stop};

/// Tells a stage to stop when the run does, or when its time is over.
pub(crate) struct Clock {
    limit: Option<Duration>,
    run: watch::Receiver<Stop>,
    stop: watch::Receiver<Stop>,
    over: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Clock {
    pub(crate) fn start(limit: Option<Duration>, run: &watch::Receiver<Stop>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, task) = match limit {
            None => (run.clone(), None),
            Some(limit) => {
                let (send, stop) = watch::channel(*run.borrow());
                let task = tokio::spawn(tell(limit, run.clone(), send, Arc::clone(&over)));
                (stop, Some(task))
            }
        };
        Self { limit, run: run.clone(), stop, over, task }
    }

    /// What the stage listens to.
    pub(crate) fn stop(&mut self) -> &mut watch::Receiver<Stop> {
        &mut self.stop
    }

    /// The same result, unless it was the time that ended the stage.
    pub(crate) fn judge<T>(&self, ran: Result<T, RunError>) -> Result<T, RunError> {
        let by_time = self.over.load(Ordering::Relaxed) && *self.run.borrow() == Stop::No;
        match (ran, self.limit) {
            (Err(RunError::Cancelled), Some(limit)) if by_time => Err(RunError::TimedOut(limit)),
            (ran, _) => ran,
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Hands on what the run says, and says itself when the time is over.
async fn tell(
    limit: Duration,
    mut run: watch::Receiver<Stop>,
    send: watch::Sender<Stop>,
    over: Arc<AtomicBool>,
) {
    let deadline = sleep(limit);
    tokio::pin!(deadline);
    let mut listens = true;
    loop {
        tokio::select! {
            changed = run.changed(), if listens => listens = changed.is_ok(),
            () = &mut deadline, if !over.load(Ordering::Relaxed) => {
                over.store(true, Ordering::Relaxed);
            }
            else => return send.closed().await,
        }
        let said = *run.borrow();
        let late = over.load(Ordering::Relaxed) && said == Stop::No;
        send.send_replace(if late { Stop::Gently } else { said });
    }
}
