//! `gradus runs`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::common::{self, CacheArgs};
use crate::{failure::Failure, terminal::Terminal};

/// List the runs there were, the newest first
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Only runs of this pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Runs {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let pipeline = self.pipeline.as_deref();
        let runs = common::runs(&self.cache.open_for(pipeline)?, pipeline)?;
        let shown = &runs[..runs.len().min(self.limit)];
        terminal.runs(shown, runs.len());
        Ok(ExitCode::SUCCESS)
    }
}
