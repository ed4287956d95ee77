//! What a run was asked for, kept with its record: enough to do it again, and to know what it was done with.

use std::{fs, path::Path};

use gradus_cache::{Cache, Process};
use serde::{Deserialize, Serialize};

use super::{history::runs, made::Commit, session::Session};
use crate::{plan::Plan, spec::Overrides};

const FILE: &str = "asked.json";

/// A run's command line, and the texts that it read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// The pipeline's texts as they were read, and what was laid over its parameters.
    pub pipeline: Overrides,
    /// The stages asked for; all when empty.
    pub targets: Vec<String>,
    pub force: bool,
    pub keep_going: bool,
    /// The class of the device.
    pub device: String,
    pub host: String,
    /// The version of gradus.
    pub gradus: String,
    /// The work tree that the pipeline lay in, where the run computed something.
    pub git: Option<Commit>,
}

impl Asked {
    pub(crate) fn of(session: &Session, plan: &Plan) -> Self {
        let folder = &plan.asked.folder;
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        let absolute =
            |path: &std::path::PathBuf| std::path::absolute(path).unwrap_or(path.clone());
        let files = plan.asked.files.iter().map(absolute).collect();
        Self {
            pipeline: Overrides { files, folder, ..plan.asked.clone() },
            targets: session.settings.targets.clone(),
            force: session.settings.force,
            keep_going: session.settings.keep_going,
            device: session.devices.class.clone(),
            host: Process::own().host.clone(),
            gradus: env!("CARGO_PKG_VERSION").to_owned(),
            git: None,
        }
    }

    /// What the run of that id was asked for; `None` where that is not known.
    pub fn read(cache: &Cache, run: &str) -> Option<Self> {
        let bytes = fs::read(runs(cache).join(run).join(FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it into a run's folder. A run goes on without.
    pub(crate) fn write(&self, folder: &Path) {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(folder.join(FILE), bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "what the run was asked for cannot be written");
        }
    }
}
