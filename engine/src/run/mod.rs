//! The plan carried out: what is cached is recalled, the rest runs in workers and is committed.
//!
//! The one room that starts processes. [`Session::preview`] says what would run; [`Session::run`] does it
//! and reports by [`Event`](crate::event::Event).

mod clock;
mod compare;
mod curves;
mod demands;
mod devices;
mod execute;
mod explain;
mod frames;
mod guard;
mod history;
mod launch;
mod libtorch;
mod lineage;
mod log;
mod made;
mod outputs;
mod preview;
mod program;
mod resolve;
mod retry;
mod schedule;
mod seal;
mod secret;
mod share;
mod slots;
mod snapshot;
mod sweep;
mod turn;
mod uploads;
mod watched;
mod worker;

use std::path::PathBuf;

use gradus_cache::{Cache, CacheError};
use gradus_protocol::catalog::{Catalog, Kind};
use gradus_remote::{OpenError, Remote};
use serde::Deserialize;
use thiserror::Error;

use crate::plugin::Plugin;

pub use compare::{Comparison, MetricPair, OutputPair, StageComparison};
pub use curves::{Points, curves};
pub use devices::{Devices, detect_gpus};
pub use explain::Explanation;
pub use history::{History, RunRecord, StageRecord, Status};
pub use launch::{Toolchain, find_worker};
pub use libtorch::{Libtorch, find_libtorch};
pub use lineage::{Ancestor, Found, Lineage, Source};
pub use made::{Commit, Made, local_time};
pub use outputs::{FinalOutput, final_outputs};
pub use preview::{Preview, State};
pub use schedule::Stop;
pub use share::{Moved, push_all};
pub use snapshot::{Checked, NumberOff, Verdict, check as check_snapshots};
pub use sweep::{pin, sweep};
pub use watched::Watched;

/// Everything a run needs besides the plan.
#[derive(Debug, Clone)]
pub struct Session {
    pub cache: Cache,
    /// The kinds of gradus' own worker.
    pub catalog: Catalog,
    /// The workers that bring all other kinds.
    pub plugins: Vec<Plugin>,
    pub devices: Devices,
    pub settings: Settings,
    /// Where the project's `.libtorch` and worker are looked for.
    pub project: PathBuf,
    /// Where else results may be, if it is to be asked.
    pub remote: Option<Remote>,
}

impl Session {
    /// The worker that brings `kind`, where it is not gradus' own.
    fn plugin_of(&self, kind: &Kind) -> Option<&Plugin> {
        self.plugins.iter().find(|it| it.catalog.kind(&kind.kind).is_some())
    }
}

/// What a person may choose about a run without changing any result.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Stages that run at once on the CPU.
    pub cpu_slots: usize,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Run the targets (or all) although they are cached.
    pub force: bool,
    /// Take what stages with `cache: false` made last as their result: nothing is to run.
    pub looks_back: bool,
    /// Stages asked for; all when empty.
    pub targets: Vec<String>,
    pub checkpoint: CheckpointSettings,
}

/// How often a training stage keeps its state, so that it can go on after an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// After so many steps, if given.
    pub every_steps: Option<u64>,
    /// After so many seconds.
    pub every_seconds: f64,
    /// Keep the state at the end too, where a longer training can go on from it.
    pub keep_last: bool,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { every_steps: None, every_seconds: 120.0, keep_last: true }
    }
}

/// Why the engine itself could not work, or one stage could not.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Remote(#[from] OpenError),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Setup(String),
    /// The stage's own fault, or its worker's; ends that stage alone.
    #[error("{0}")]
    Stage(String),
    /// The worker or the program died: another try may go well.
    #[error("{0}")]
    Died(String),
    #[error("it was not done within its `timeout` of {0:?}: give it more time")]
    TimedOut(std::time::Duration),
    /// A sweep was quicker than the run, or a person deleted it.
    #[error("what {names} put out is gone from the cache; run again to compute it anew")]
    Vanished { sources: Vec<usize>, names: String },
    #[error("cancelled")]
    Cancelled,
    #[error("the file `{}` changed while the stage read it; run again", .0.display())]
    Changed(PathBuf),
}

impl RunError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the same stage could go well another time.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Died(_) | Self::TimedOut(_))
    }

    /// Whether gradus, or the machine, is at fault and no stage.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Setup(_) | Self::Cache(CacheError::Full { .. } | CacheError::ReadOnly { .. })
        )
    }

    /// The words with their causes.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
