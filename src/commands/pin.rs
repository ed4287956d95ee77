//! `gradus pin`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::{History, pin};

use super::common::CacheArgs;
use crate::{failure::Failure, terminal::Terminal};

/// Keep a run and all that it uses from every sweep
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// A run's id or the beginning of it (see `gradus runs`), or `last`, `last~1` and so on
    #[arg(value_name = "RUN")]
    run: String,
    /// Let go of it again
    #[arg(long)]
    unpin: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Pin {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let cache = self.cache.open()?;
        let runs = History::all(&cache);
        let run = History::find(&runs, &self.run)
            .map_err(|why| Failure::refused(why, "`gradus runs` lists the runs"))?;
        pin(&cache, &run.run, !self.unpin)?;
        terminal.pinned(&run.run, !self.unpin);
        Ok(ExitCode::SUCCESS)
    }
}
