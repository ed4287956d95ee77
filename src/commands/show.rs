//! `gradus show`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::{History, Settings, final_outputs};

use super::common::{PipelineArgs, PlaceArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Show what the last run of a pipeline put out
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// One stage, with its outputs and where they lie
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Show {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let file = &self.pipeline.pipeline;
        let session = self.place.session(file, Settings::default())?;
        let Some(record) = History::last(&session.cache, &plan.name) else {
            return Err(Failure::refused(
                format!("`{}` has not run yet", plan.name),
                format!("gradus run {}", file.display()),
            ));
        };
        match self.stage {
            None => {
                terminal.record(&record);
                let outputs = final_outputs(&session.cache, &plan, &record)?;
                terminal.results(&record, &outputs, file);
            }
            Some(wanted) => {
                let stages = record.stages.iter();
                let found: Vec<_> = stages
                    .filter(|it| it.stage == wanted || it.stage.starts_with(&format!("{wanted}[")))
                    .collect();
                if found.is_empty() {
                    let known: Vec<_> = record.stages.iter().map(|it| it.stage.as_str()).collect();
                    return Err(Failure::refused(
                        format!("the last run has no stage `{wanted}`"),
                        format!("its stages: {}", known.join(", ")),
                    ));
                }
                terminal.stages_of_record(&found, &session.cache);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
