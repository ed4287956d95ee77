//! Trying a stage again after a failure that may pass. What it refused itself would be refused again.

use std::{fs::OpenOptions, io::Write, time::Duration};

use tokio::{sync::watch, time::sleep};

use super::shared::Shared;
use crate::{
    error::RunError,
    event::Event,
    plan::Stage,
    run::process::stop::{Stop, stopped},
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether `stage` is tried again after its failure number `failures`.
pub(crate) fn is_due(shared: &Shared, stage: &Stage, error: &RunError, failures: u32) -> bool {
    error.may_pass() && failures <= stage.conduct.retries && shared.goes_on()
}

/// Tells that the stage is tried again, and waits; an error when the run is to stop.
pub(crate) async fn pause(
    shared: &Shared,
    stage: &Stage,
    error: &RunError,
    failures: u32,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(), RunError> {
    let pause = (FIRST_PAUSE * 2_u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE);
    let tries = stage.conduct.retries + 1;
    shared.send(Event::Retried {
        stage: stage.id.clone(),
        failures,
        tries,
        message: error.full(),
        log: shared.take_log(&stage.id),
        seconds: pause.as_secs_f64(),
    });
    tokio::select! {
        () = sleep(pause) => {}
        () = stopped(stop) => return Err(RunError::Cancelled),
    }
    if !shared.goes_on() {
        return Err(RunError::Cancelled);
    }
    // All tries stand in one log.
    let log = OpenOptions::new().append(true).open(shared.log_path(&stage.id));
    let line = format!("\n--- try {} of {tries} ---\n", failures + 1);
    if let Err(error) = log.and_then(|mut log| log.write_all(line.as_bytes())) {
        tracing::warn!(%error, "the stage's log cannot be written");
    }
    Ok(())
}
