//! `gradus runs`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gradus_engine::run::{Picked, is_pinned, table};

use super::common::{self, CacheArgs};
use crate::{failure::Failure, terminal::Terminal};

/// So many are listed.
const LISTED: usize = 20;

/// List the runs there were, the newest first; with `--columns` what they were given and what they measured
///
/// A row of the table is a run, at one point of the axes of the stages that its columns name.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Only runs of this pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// At most so many runs [default: 20, and all for a table]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// A table of these: `run`, `pipeline`, `started`, `outcome`, an axis of a matrix, or `STAGE.NAME` with a
    /// parameter or a metric of the stage, or its `seconds`, `status` or `kind`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    columns: Vec<String>,
    /// Only rows of which this holds, e.g. `evaluation.kl<5` (can be repeated)
    #[arg(long = "where", value_name = "CONDITION", requires = "columns")]
    filters: Vec<String>,
    /// Sort by this column; with `-` before it the largest first
    #[arg(long, value_name = "NAME", requires = "columns", allow_hyphen_values = true)]
    sort: Option<String>,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Runs {
    pub(crate) fn is_table(&self) -> bool {
        !self.columns.is_empty()
    }

    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let pipeline = self.pipeline.as_deref();
        let cache = self.cache.open_for(pipeline)?;
        let runs = common::runs(&cache, pipeline)?;
        if self.is_table() {
            let limit = self.limit.unwrap_or(usize::MAX);
            let runs: Vec<_> = runs.iter().take(limit).collect();
            let picked = Picked { filters: self.filters, sort: self.sort };
            let made = table(&cache, &runs, &self.columns, &picked);
            let made = made.map_err(|why| Failure::Refused { message: why, help: None })?;
            terminal.table(&made);
        } else {
            let shown = &runs[..runs.len().min(self.limit.unwrap_or(LISTED))];
            terminal.runs(shown, runs.len(), &|run| is_pinned(&cache, run));
        }
        Ok(ExitCode::SUCCESS)
    }
}
