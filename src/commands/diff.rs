//! `gradus diff`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gradus_engine::run::{Comparison, History};

use super::common::{self, CacheArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Compare two runs: parameters, metrics and outputs, stage by stage
///
/// A run is named by its id (see `gradus runs`), by the beginning of it, or by `last`, `last~1` and so on.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[arg(value_name = "RUN")]
    first: String,
    #[arg(value_name = "RUN")]
    second: String,
    /// Count `last` among the runs of this pipeline alone
    #[arg(long = "of", value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Diff {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let pipeline = self.pipeline.as_deref();
        let cache = self.cache.open_for(pipeline)?;
        let runs = common::runs(&cache, pipeline)?;
        let find = |text: &str| {
            History::find(&runs, text)
                .map_err(|why| Failure::refused(why, "`gradus runs` lists the runs there are"))
        };
        let (first, second) = (find(&self.first)?, find(&self.second)?);
        terminal.comparison(first, second, &Comparison::of(&cache, first, second)?);
        Ok(ExitCode::SUCCESS)
    }
}
