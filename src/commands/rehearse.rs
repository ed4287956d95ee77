//! `gradus rehearse`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;

use super::{common::CacheArgs, run::RunArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Run a pipeline with as little work as can be, to see whether it runs through
///
/// A few steps and rows, with models and batches as they are: the last stage's mistake shows before the
/// first one's three days. Programs find `GRADUS_REHEARSAL=1` in their environment. Results, records and copies of
/// outputs are apart from those of runs, below `rehearsal` in the cache.
#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    words: RunArgs,
}

impl Rehearse {
    pub(crate) fn exec(mut self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let file = &self.words.pipeline.pipeline;
        let cache = CacheArgs { cache: self.words.place.cache.take() }.open_for(Some(file))?;
        self.words.place.cache = Some(cache.root().join("rehearsal"));
        self.words.remote.no_remote = true;
        let (plan, selected) = self.words.read()?;
        let record = self.words.try_out(&Arc::new(plan.rehearsed()), &selected, terminal)?;
        terminal.rehearsed(&record);
        Ok(super::run::code(&record))
    }
}
