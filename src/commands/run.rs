//! `gradus run`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use gradus_engine::{
    event::{Event, Outcome},
    run::{RunError, RunRecord, Session, Settings, Stop, final_outputs},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::common::{PipelineArgs, PlaceArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Run a pipeline: what is cached is taken from there, the rest is computed
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// After a failure, go on with the stages that do not depend on it
    #[arg(long)]
    keep_going: bool,
    /// Run the named stages (or all) although they are cached
    #[arg(long)]
    force: bool,
    /// Stages that run at once on the CPU [default: half the cores]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Run {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = Arc::new(self.pipeline.plan()?);
        let selected = plan.select(&self.targets)?;
        // Each stage computes with two threads.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = Settings {
            cpu_slots: self.slots.unwrap_or(cores / 2).max(1),
            keep_going: self.keep_going,
            force: self.force,
            targets: self.targets,
            ..Settings::default()
        };
        let file = self.pipeline.pipeline;
        let session = self.place.session(&file, settings)?;
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| RunError::Setup(format!("no threads to run with: {error}")))?;
        let record = runtime.block_on(drive(&session, &plan, &file, &selected, terminal));
        // What still runs then is a reader of a dead process: nothing to wait for.
        runtime.shutdown_background();
        let record = record?;
        if record.outcome == Some(Outcome::Done) {
            let outputs = final_outputs(&session.cache, &plan, &record)?;
            terminal.results(&record, &outputs, &file);
        }
        Ok(ExitCode::from(match record.outcome {
            Some(Outcome::Done) => 0,
            Some(Outcome::Broken) => 2,
            Some(Outcome::Failed | Outcome::Cancelled) | None => 1,
        }))
    }
}

/// Runs the plan while the terminal reads its events and Ctrl-C is heard.
async fn drive(
    session: &Session,
    plan: &Arc<gradus_engine::plan::Plan>,
    file: &std::path::Path,
    selected: &[usize],
    terminal: &mut Terminal,
) -> Result<RunRecord, RunError> {
    let (send, mut events) = mpsc::unbounded_channel::<Event>();
    let (stop, stopped) = watch::channel(Stop::No);
    let running = session.run(Arc::clone(plan), file, selected, send, stopped);
    tokio::pin!(running);
    let mut live = terminal.live();
    // Both are listened to from here on, so that none is lost between two turns of the loop.
    let listen = |kind| {
        signal(kind).map_err(|error| RunError::Setup(format!("signals cannot be heard: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let record = loop {
        let ask = || {
            stop.send_modify(|stop| {
                *stop = if *stop == Stop::No { Stop::Gently } else { Stop::Now };
            });
        };
        tokio::select! {
            biased;
            Some(event) = events.recv() => live.take(&event),
            record = &mut running => break record,
            _ = interrupt.recv() => {
                live.note("stopping; press Ctrl-C again to stop at once");
                ask();
            }
            _ = terminate.recv() => ask(),
        }
    };
    while let Ok(event) = events.try_recv() {
        live.take(&event);
    }
    record
}
