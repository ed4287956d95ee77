//! `gradus rerun`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use gradus_engine::run::{Asked, History};

use super::{
    common::{self, CacheArgs, PipelineArgs, PlaceArgs, RemoteArgs, load_asked},
    run::RunArgs,
};
use crate::{failure::Failure, terminal::Terminal};

/// Do a run again, with the pipeline and the parameters that it had then
///
/// What it reads besides (data, scripts, models) is what is there now; of a change there `gradus plan` and
/// the run itself tell. Stages whose results are still there are taken from the cache.
#[derive(Debug, Args)]
pub(crate) struct Rerun {
    /// A run's id or the beginning of it (see `gradus runs`), or `last`, `last~1` and so on
    #[arg(value_name = "RUN")]
    run: String,
    /// Run its stages although they are cached
    #[arg(long)]
    force: bool,
    /// Stages that run at once on the CPU [default: half the cores]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Rerun {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let cache = CacheArgs { cache: self.place.cache.clone() }.open()?;
        let runs = common::runs(&cache, None)?;
        let record = History::find(&runs, &self.run)
            .map_err(|why| Failure::refused(why, "`gradus runs` lists the runs"))?;
        let asked = Asked::read(&cache, &record.run).ok_or_else(|| {
            Failure::refused(
                format!("run {} left no word of what it was asked for", record.run),
                format!("gradus run {}", record.file.display()),
            )
        })?;
        let plan = Arc::new(load_asked(&record.file, &asked.pipeline)?);
        let selected = plan.select(&asked.targets)?;
        let place = PlaceArgs { cache: Some(cache.root().to_owned()), ..self.place };
        let words = RunArgs {
            pipeline: PipelineArgs::of(record.file.clone()),
            targets: asked.targets,
            keep_going: asked.keep_going,
            slots: self.slots,
            place,
            remote: self.remote,
        };
        words.carry_out(&plan, &selected, self.force || asked.force, terminal)
    }
}
