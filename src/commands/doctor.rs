//! `gradus doctor`.

use std::{path::Path, process::ExitCode};

use clap::Args;
use gradus_cache::Cache;
use gradus_engine::{
    project::Project,
    run::{detect_gpus, find_libtorch, find_worker},
};

use super::runtime::in_runtime;
use crate::{failure::Failure, terminal::Terminal};

/// Say what this machine has for Gradus, and what is missing
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl Doctor {
    #[expect(clippy::unused_self, reason = "every command has this signature")]
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let project = Project::of(Path::new("pipeline.yaml"), None)?;
        let worker = find_worker().map(|path| path.display().to_string());
        let libtorch = find_libtorch(&project.root).map(|found| {
            let half = if found.cuda { "with CUDA" } else { "CPU only" };
            format!("{} ({half}), from {}", found.version, found.source)
        });
        let cache = Cache::open(&project.cache).map(|cache| cache.root().display().to_string());
        let gpus = detect_gpus();
        let gpus = if gpus.is_empty() {
            "none: stages run on the CPU".to_owned()
        } else {
            gpus.join(", ")
        };
        let mut rows = vec![
            ("worker".to_owned(), worker.map_err(|error| error.full())),
            ("libtorch".to_owned(), libtorch.map_err(|error| error.full())),
            ("cache".to_owned(), cache.map_err(|error| error.to_string())),
            ("GPUs".to_owned(), Ok(gpus)),
        ];
        for (name, plugin) in project.each_plugin() {
            let found = match plugin {
                Ok(plugin) => in_runtime(async |_| Ok(plugin.greet().await))?.map(|()| {
                    let kinds = plugin.catalog.kinds.iter().map(|kind| kind.kind.as_str());
                    format!("brings {}", kinds.collect::<Vec<_>>().join(", "))
                }),
                Err(error) => Err(error),
            };
            rows.push((format!("worker `{name}`"), found.map_err(|error| error.full())));
        }
        let sound = rows.iter().all(|(_, found)| found.is_ok());
        terminal.doctor(&rows);
        Ok(ExitCode::from(if sound { 0 } else { 2 }))
    }
}
