//! What a running stage may ask of the world: seed, device, and a way to report.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gradus_protocol::{Checkpoints, Page, Reached, Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::StageError,
    nn::{
        curve::write_curve,
        learner::{Learnt, Observer},
        statistics::Estimate,
        stream::Stream,
    },
    prepare::tally::Tally,
};

/// Reports at most this often; a step can take a millisecond.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Into the log at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How far the rows are is written down at most this often.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// Given to every stage while it runs.
pub(crate) struct Context {
    /// The only source of randomness.
    streams: Stream,
    pub(crate) device: tch::Device,
    /// Where training keeps its state while it runs.
    pub(crate) checkpoints: Option<Checkpoints>,
    /// Where what is computed row by row is kept.
    pub(crate) ledger: Option<PathBuf>,
    /// What its last bits hang on: the class of the device, and the threads.
    pub(crate) machine: String,
    cancelled: Arc<AtomicBool>,
    send: Box<dyn FnMut(Reply) + Send>,
    /// Numbers of the summary that are none.
    not_finite: Vec<String>,
    reported: Option<Instant>,
    logged: Option<Instant>,
    noted: Option<Instant>,
}

impl Context {
    pub(crate) fn new(
        seed: u64,
        device: tch::Device,
        cancelled: Arc<AtomicBool>,
        reply: Box<dyn FnMut(Reply) + Send>,
    ) -> Self {
        Self {
            streams: Stream::of(seed),
            device,
            checkpoints: None,
            ledger: None,
            machine: String::new(),
            cancelled,
            send: reply,
            not_finite: Vec::new(),
            reported: None,
            logged: None,
            noted: None,
        }
    }

    /// The random numbers of one purpose; a purpose has them once.
    pub(crate) fn stream(&mut self, purpose: &'static str) -> Stream {
        self.streams.named(purpose)
    }

    /// Ends the stage if the person asked for that, where nothing tells how far it is.
    pub(crate) fn heard(&self) -> Result<(), StageError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(StageError::Cancelled) } else { Ok(()) }
    }

    /// Says how far the stage is, and ends it if the person asked for that.
    pub(crate) fn progress(
        &mut self,
        done: usize,
        total: usize,
        unit: &str,
        note: &str,
    ) -> Result<(), StageError> {
        self.heard()?;
        let due = self.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY);
        if due || done == total {
            self.reported = Some(Instant::now());
            (self.send)(Reply::Progress {
                done: done as u64,
                total: total as u64,
                unit: unit.to_owned(),
                note: note.to_owned(),
            });
        }
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) || done == total {
            self.logged = Some(Instant::now());
            tracing::info!("{done} of {total} {unit}  {note}");
        }
        Ok(())
    }

    /// The page of the ledger for `what`, computed by its `revision` with `settings`: all that a result hangs on but
    /// the rows.
    pub(crate) fn page(&self, what: &str, revision: u32, settings: &impl Serialize) -> Page {
        let settings = serde_json::json!([what, revision, self.machine, settings]);
        let anew = self.checkpoints.as_ref().is_some_and(|it| it.anew);
        Page::new(self.ledger.as_deref(), anew, &settings.to_string())
    }

    /// As [`Context::progress`], of rows whose results are kept: a plan says so after an interruption.
    pub(crate) fn rows(&mut self, done: usize, of: usize, unit: &str) -> Result<(), StageError> {
        let due = self.noted.is_none_or(|last| last.elapsed() >= NOTE_EVERY);
        if let Some(kept) = self.checkpoints.as_ref().filter(|_| due && done > 0) {
            self.noted = Some(Instant::now());
            let reached = Reached { done: done as u64, of: of as u64, unit: unit.to_owned() };
            if let Err(error) = reached.write(&kept.folder) {
                tracing::warn!(%error, "a plan will not say how far this is");
            }
        }
        self.progress(done, of, unit, "")
    }

    /// Tells the person who waits.
    pub(crate) fn note(&mut self, words: String) {
        tracing::info!("{words}");
        (self.send)(Reply::Note { words });
    }

    /// Reports a number of one step, for a curve.
    pub(crate) fn metric(&mut self, name: &str, step: usize, value: f64) {
        self.send_metric(name, Some(step as u64), value);
    }

    /// Reports a number of the whole stage: it is kept with the action and shown in the summary. One that is
    /// not finite fails the stage when it ends.
    pub(crate) fn summary(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            self.not_finite.push(name.to_owned());
        }
        self.send_metric(name, None, value);
    }

    /// Refuses a stage that has reported numbers that are none.
    pub(crate) fn check_summary(&self) -> Result<(), StageError> {
        if self.not_finite.is_empty() {
            return Ok(());
        }
        Err(StageError::refused(format!(
            "{} came out as NaN or infinity: the training went astray, or its rows hold what cannot be measured",
            self.not_finite.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )))
    }

    /// Reports a number of the whole stage with the bounds of its interval, if it has one.
    pub(crate) fn estimate(&mut self, name: &str, estimate: &Estimate) {
        self.summary(name, estimate.value);
        if let Some(interval) = estimate.interval {
            self.summary(&format!("{name}_low"), interval.low);
            self.summary(&format!("{name}_high"), interval.high);
        }
    }

    /// Reports what came of a training, and writes its curve.
    pub(crate) fn learnt(&mut self, learnt: &Learnt, curve: &Path) -> Result<(), StageError> {
        if let Some(step) = learnt.best {
            self.summary("best_step", step as f64);
        }
        write_curve(&learnt.curve, curve)
    }

    /// Reports how many rows there are, were dropped and were cut, and says it where they are many.
    pub(crate) fn tally(&mut self, prefix: &str, tally: &Tally) {
        for (name, count) in tally.counts() {
            self.summary(&format!("{prefix}{name}"), count as f64);
        }
        tally.warnings().into_iter().for_each(|words| self.note(words));
    }

    fn send_metric(&mut self, name: &str, step: Option<u64>, value: f64) {
        let value = value.is_finite().then_some(value);
        (self.send)(Reply::Metric { name: name.to_owned(), step, value });
    }
}

impl Observer for Context {
    fn progress(&mut self, done: usize, total: usize, note: &str) -> Result<(), StageError> {
        Self::progress(self, done, total, "steps", note)
    }

    fn metric(&mut self, name: &str, step: usize, value: f64) {
        Self::metric(self, name, step, value);
    }

    fn note(&mut self, words: String) {
        Self::note(self, words);
    }

    fn heard(&self) -> Result<(), StageError> {
        Self::heard(self)
    }

    fn saving(&mut self) {
        (self.send)(Reply::Saving);
    }

    fn checkpoints(&self) -> Option<Checkpoints> {
        self.checkpoints.clone()
    }
}

/// A file of the user's as a parameter: the engine puts its content into the fingerprint.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UserFile(pub(crate) PathBuf);

impl JsonSchema for UserFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UserFile".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "path" })
    }
}
