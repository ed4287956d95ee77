//! What a run tells whoever listens. Progress bars and JSON lines are two readers of this one stream.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use gradus_cache::{Artifact, Fingerprint};
use gradus_protocol::Reached;
use serde::{Deserialize, Serialize};

/// Final numbers of a stage; `None` for one that is not finite.
pub type Metrics = BTreeMap<String, Option<f64>>;

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    RunStarted {
        run: String,
        pipeline: String,
        /// The pipeline's file.
        #[serde(default)]
        file: PathBuf,
        device: String,
        stages: Vec<StageName>,
    },
    /// Found in the cache: nothing ran.
    Cached {
        stage: String,
        fingerprint: Fingerprint,
        outputs: BTreeMap<String, Artifact>,
        metrics: Metrics,
        /// What the kind says to these numbers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        advice: Vec<String>,
        /// It was fetched from the remote just now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        remote: bool,
    },
    /// Another process is at the same work: its result is waited for.
    Waiting {
        stage: String,
        /// Whose work it is.
        run: String,
        host: String,
        pid: i32,
        /// Local time.
        since: String,
    },
    Started {
        stage: String,
        fingerprint: Fingerprint,
        device: String,
        #[serde(flatten)]
        why: Why,
    },
    Progress {
        stage: String,
        done: u64,
        total: u64,
        unit: String,
        note: String,
    },
    Metric {
        stage: String,
        name: String,
        step: Option<u64>,
        value: Option<f64>,
    },
    Finished {
        stage: String,
        fingerprint: Fingerprint,
        outputs: BTreeMap<String, Artifact>,
        metrics: Metrics,
        /// What the kind says to these numbers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        advice: Vec<String>,
        seconds: f64,
    },
    /// Failed in a way that may pass, and is tried again after `seconds`.
    Retried {
        stage: String,
        /// How often it has failed by now.
        failures: u32,
        /// How often it is tried in all.
        tries: u32,
        message: String,
        /// The last lines of the stage's log.
        log: Vec<String>,
        seconds: f64,
    },
    Failed {
        stage: String,
        message: String,
        /// The last lines of the stage's log.
        log: Vec<String>,
    },
    /// Did not run because of another stage, or because the run was stopped.
    Skipped {
        stage: String,
        because: String,
    },
    /// Worth a line to a person, but no failure.
    Note {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
        message: String,
    },
    RunFinished {
        run: String,
        outcome: Outcome,
        ran: usize,
        cached: usize,
        failed: usize,
        skipped: usize,
        seconds: f64,
    },
}

/// Why a stage runs, compared with the last time that it ran or was found in the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    #[serde(default)]
    pub cause: Cause,
    /// What changed, in words; empty for every other cause.
    pub reasons: Vec<String>,
    /// The step whose state the stage goes on from: of an interrupted run, or of a shorter stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on_from: Option<u64>,
    /// How far a stage was that works row by row and was broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
    /// It differs from the last time in its rows alone: what was computed of those that are the same is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_rows: bool,
}

/// What made a stage run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It never ran to its end on this machine.
    #[default]
    NeverRan,
    Changed,
    /// Nothing changed, but the cache does not have its result any more.
    ResultGone,
    Forced,
    /// It says `cache: false`.
    Always,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::NeverRan => f.write_str("never ran to its end here")?,
            Cause::Changed => write!(f, "because of {}", self.reasons.join(", "))?,
            Cause::ResultGone => f.write_str("its result is gone from the cache")?,
            Cause::Always => f.write_str("always: it says `cache: false`")?,
            Cause::Forced => f.write_str("forced, although it is cached")?,
        }
        match (self.goes_on_from, &self.reached) {
            (Some(step), _) => write!(f, "; goes on from step {step}"),
            (None, Some(Reached { done, of, unit })) => {
                write!(f, "; goes on from {done} of {of} {unit}")
            }
            (None, None) if self.keeps_rows => f.write_str("; rows that it has seen are kept"),
            (None, None) => Ok(()),
        }
    }
}

/// A stage of the run and what it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageName {
    pub stage: String,
    pub kind: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed,
    Cancelled,
    /// Gradus could not work: it found no worker, say.
    Broken,
}
