//! `gradus run`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use gradus_engine::{
    event::{Event, Outcome},
    plan::{Plan, told},
    run::{Preview, RunError, RunRecord, Session, Settings, State, Stop, final_outputs},
    spec::time,
};
use tokio::sync::{mpsc, watch};

use super::{
    common::{PipelineArgs, PlaceArgs, RemoteArgs, load_both},
    looking::{look, that_read_files},
    runtime::{Signals, in_runtime},
};
use crate::{
    failure::Failure,
    terminal::{Terminal, in_words},
};

/// Run a pipeline: what is cached is taken from there, the rest is computed
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    words: RunArgs,
    /// Run the named stages (or all) although they are cached
    #[arg(long)]
    force: bool,
    /// Refuse a run that would take longer, by what its stages took before: `90m`, `2h`
    #[arg(long, value_name = "TIME", value_parser = a_time)]
    at_most: Option<Duration>,
}

fn a_time(text: &str) -> Result<Duration, String> {
    time(text).ok_or_else(|| "a time is written like `90s`, `10m` or `1h30m`".to_owned())
}

/// What is run, and how
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(super) pipeline: PipelineArgs,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE")]
    pub(super) targets: Vec<String>,
    /// After a failure, go on with the stages that do not depend on it
    #[arg(long)]
    pub(super) keep_going: bool,
    /// Stages that run at once on the CPU [default: half the cores]
    #[arg(long, value_name = "N")]
    pub(super) slots: Option<usize>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

impl Run {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let (plan, selected) = self.words.plan()?;
        if let Some(most) = self.at_most {
            self.words.refuse_long(&plan, &selected, self.force, most)?;
        }
        if !self.words.look_first(&plan, &selected, self.force, terminal)? {
            return Ok(ExitCode::FAILURE);
        }
        self.words.carry_out(&plan, &selected, self.force, terminal)
    }
}

impl RunArgs {
    /// The plan, and the stages of it that are asked for.
    pub(super) fn plan(&self) -> Result<(Arc<Plan>, Vec<usize>), Failure> {
        let (plan, selected) = self.read()?;
        Ok((Arc::new(plan), selected))
    }

    /// The same, where it is still to be changed.
    pub(super) fn read(&self) -> Result<(Plan, Vec<usize>), Failure> {
        let plan = self.pipeline.plan()?;
        let selected = plan.select(&self.targets)?;
        Ok((plan, selected))
    }

    /// Runs the plan once and shows what came of it.
    pub(super) fn carry_out(
        &self,
        plan: &Arc<Plan>,
        selected: &[usize],
        force: bool,
        terminal: &mut Terminal,
    ) -> Result<ExitCode, Failure> {
        let record = in_runtime(async |signals| {
            let (session, record) = self.once(plan, selected, force, signals, terminal).await?;
            self.show(&session, plan, &record, terminal)?;
            Ok(record)
        })?;
        Ok(code(&record))
    }

    /// Runs the plan once, and shows nothing of what it put out.
    pub(super) fn try_out(
        &self,
        plan: &Arc<Plan>,
        selected: &[usize],
        terminal: &mut Terminal,
    ) -> Result<RunRecord, Failure> {
        in_runtime(async |signals| Ok(self.once(plan, selected, false, signals, terminal).await?.1))
    }

    /// Says which stages that are to run cannot read a file of the person's own, for the last of them may be days away;
    /// whether all can. Who keeps going wants what can be had.
    fn look_first(
        &self,
        plan: &Plan,
        selected: &[usize],
        force: bool,
        terminal: &Terminal,
    ) -> Result<bool, Failure> {
        if self.keep_going {
            return Ok(true);
        }
        let session = self.session(force)?;
        let reading = that_read_files(&session, plan, selected);
        let (previews, _) = session.preview(plan, &plan.with_sources(&reading))?;
        let runs = |it: &Preview| !matches!(it.state, State::Cached | State::Remote);
        let runs = previews.iter().filter(|it| runs(it)).map(|it| it.stage);
        let reading: Vec<usize> = runs.filter(|stage| reading.contains(stage)).collect();
        if reading.is_empty() {
            return Ok(true);
        }
        // Where nobody can look, the run itself says what is missing.
        let Ok(looked) = look(&session, plan, &reading)? else { return Ok(true) };
        if !looked.wrong.is_empty() {
            terminal.unusable(plan, &looked.wrong);
            return Ok(false);
        }
        let overrides = self.pipeline.parameters.overrides();
        let (pipeline, plan) = load_both(&self.pipeline.pipeline, &overrides)?;
        let mistakes = told(&plan, &pipeline, &[], &looked.known);
        if mistakes.list.is_empty() { Ok(true) } else { Err(mistakes.into()) }
    }

    /// An error if the run would take more than `most`.
    fn refuse_long(
        &self,
        plan: &Plan,
        selected: &[usize],
        force: bool,
        most: Duration,
    ) -> Result<(), Failure> {
        let session = self.session(force)?;
        let (previews, _) = session.preview(plan, selected)?;
        let estimate = session.estimate(plan, &previews);
        match estimate.filter(|it| it.seconds > most.as_secs_f64()) {
            None => Ok(()),
            Some(estimate) => Err(Failure::refused(
                format!(
                    "this would take about {}, from what its stages took before, and `--at-most` allows {}",
                    in_words(estimate.seconds),
                    in_words(most.as_secs_f64())
                ),
                format!("`gradus plan {}` says what would run", self.pipeline.pipeline.display()),
            )),
        }
    }

    fn session(&self, force: bool) -> Result<Session, Failure> {
        let settings = Settings {
            cpu_slots: self.slots.map_or(0, |slots| slots.max(1)),
            keep_going: self.keep_going,
            force,
            targets: self.targets.clone(),
            ..Settings::default()
        };
        self.place.session_with(&self.pipeline.pipeline, settings, &self.remote)
    }

    /// Runs the plan once.
    pub(super) async fn once(
        &self,
        plan: &Arc<Plan>,
        selected: &[usize],
        force: bool,
        signals: &mut Signals,
        terminal: &mut Terminal,
    ) -> Result<(Session, RunRecord), Failure> {
        let file = &self.pipeline.pipeline;
        let session = self.session(force)?;
        let record = drive(&session, plan, file, selected, signals, terminal).await?;
        Ok((session, record))
    }

    /// Shows what came of a run that is done.
    pub(super) fn show(
        &self,
        session: &Session,
        plan: &Plan,
        record: &RunRecord,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        if record.outcome == Some(Outcome::Done) {
            let outputs = final_outputs(&session.cache, plan, record)?;
            terminal.results(&session.cache, record, &outputs, &self.pipeline.pipeline);
        }
        Ok(())
    }
}

pub(super) fn code(record: &RunRecord) -> ExitCode {
    ExitCode::from(match record.outcome {
        Some(Outcome::Done) => 0,
        Some(Outcome::Broken) => 2,
        Some(Outcome::Failed | Outcome::Cancelled) | None => 1,
    })
}

/// So many events are shown at once.
const BURST: usize = 500;

/// Runs the plan while the terminal reads its events and Ctrl-C is heard.
async fn drive(
    session: &Session,
    plan: &Arc<Plan>,
    file: &std::path::Path,
    selected: &[usize],
    signals: &mut Signals,
    terminal: &mut Terminal,
) -> Result<RunRecord, RunError> {
    let (send, mut events) = mpsc::unbounded_channel::<Event>();
    let (stop, stopped) = watch::channel(Stop::No);
    let running = session.run(Arc::clone(plan), file, selected, send, stopped);
    tokio::pin!(running);
    let mut live = terminal.live();
    let mut heard = Vec::new();
    let record = loop {
        let ask = || {
            stop.send_modify(|stop| {
                *stop = if *stop == Stop::No { Stop::Gently } else { Stop::Now };
            });
        };
        tokio::select! {
            biased;
            1.. = events.recv_many(&mut heard, BURST) => {
                heard.drain(..).for_each(|event| live.take(&event));
                live.flush();
            }
            record = &mut running => break record,
            _ = signals.interrupt.recv() => {
                live.note("stopping; press Ctrl-C again to stop at once");
                live.flush();
                ask();
            }
            () = signals.terminate.recv() => ask(),
        }
    };
    while let Ok(event) = events.try_recv() {
        live.take(&event);
    }
    live.flush();
    record
}
