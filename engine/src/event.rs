//! What a run tells whoever listens. Progress bars and JSON lines are two readers of this one stream.

use std::collections::BTreeMap;

use gradus_cache::{Artifact, Fingerprint};
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
        device: String,
        stages: Vec<StageName>,
    },
    /// Found in the cache: nothing ran.
    Cached {
        stage: String,
        fingerprint: Fingerprint,
        outputs: BTreeMap<String, Artifact>,
        metrics: Metrics,
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
        /// What changed since this stage last ran; empty if it never did.
        reasons: Vec<String>,
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
