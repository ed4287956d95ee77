//! What a run needs besides the plan.

use std::path::PathBuf;

use gradus_cache::Cache;
use gradus_protocol::catalog::{Catalog, Kind};
use gradus_remote::Remote;
use serde::Deserialize;

use crate::{plugin::Plugin, run::process::devices::Devices};

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
    pub(crate) fn plugin_of(&self, kind: &Kind) -> Option<&Plugin> {
        self.plugins.iter().find(|it| it.catalog.kind(&kind.kind).is_some())
    }
}

/// What a person may choose about a run without changing any result.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Stages that run at once on the CPU; 0 for as many as the cores have room for.
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
