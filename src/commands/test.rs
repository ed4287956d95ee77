//! `gradus test`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gradus_engine::{
    event::Outcome,
    run::{check_snapshots, orphans},
};

use super::{
    common::{ParameterArgs, PipelineArgs, PlaceArgs, RemoteArgs},
    run::RunArgs,
    runtime::in_runtime,
};
use crate::{failure::Failure, terminal::Terminal};

/// Run pipelines and compare what they put out with their snapshots
///
/// Snapshots are files in `snapshots/` beside a pipeline; its key `snapshot` says what is compared, else
/// the metrics of every stage are. What differs is left beside as `.snap.new`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Pipeline files to test (can be repeated)
    #[arg(required = true, value_name = "PIPELINE")]
    pipelines: Vec<PathBuf>,
    /// Make what was found the new snapshots
    #[arg(long)]
    accept: bool,
    /// Stages that run at once on the CPU [default: half the cores]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    #[command(flatten)]
    parameters: ParameterArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Test {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        // All are checked before the first is run.
        let mut tests = Vec::new();
        for pipeline in &self.pipelines {
            let words = RunArgs {
                pipeline: PipelineArgs {
                    pipeline: pipeline.clone(),
                    parameters: self.parameters.clone(),
                },
                targets: Vec::new(),
                keep_going: false,
                slots: self.slots,
                place: self.place.clone(),
                remote: self.remote.clone(),
            };
            let (plan, selected) = words.plan()?;
            tests.push((words, plan, selected));
        }
        in_runtime(async |signals| {
            let mut code = 0;
            for (words, plan, selected) in &tests {
                let (session, record) =
                    words.once(plan, selected, false, signals, terminal).await?;
                match record.outcome {
                    Some(Outcome::Done) => {}
                    Some(Outcome::Cancelled) => return Ok(ExitCode::from(1)),
                    Some(Outcome::Broken) => return Ok(ExitCode::from(2)),
                    Some(Outcome::Failed) | None => {
                        code = 1;
                        continue;
                    }
                }
                let file = &words.pipeline.pipeline;
                let checked = check_snapshots(&session.cache, plan, &record, file, self.accept)?;
                let alone = orphans(file, &checked);
                let alone = alone.iter().map(|path| {
                    let path = path.display();
                    format!(
                        "{path} was compared with nothing: delete it, if its stage is gone for good"
                    )
                });
                terminal.warnings(&alone.collect::<Vec<_>>());
                let agrees = terminal.tested(file, &checked);
                code = if agrees { code } else { 1 };
            }
            Ok(ExitCode::from(code))
        })
    }
}
