//! `gradus logs`.

use std::{fs, process::ExitCode};

use clap::Args;
use gradus_engine::run::{History, RunError, Settings};

use super::common::{PipelineArgs, PlaceArgs, one_stage};
use crate::{failure::Failure, terminal::Terminal};

/// Print the newest log of a stage
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Logs {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let stage = &plan.stages[one_stage(&plan, &self.stage)?].id;
        let session = self.place.session(&self.pipeline.pipeline, Settings::default())?;
        let Some(path) = History::last_log(&session.cache, &plan.file, stage) else {
            return Err(Failure::refused(
                format!("`{}` left no log", self.stage),
                "a stage has a log once it ran here; cached stages have none",
            ));
        };
        let text = fs::read(&path).map_err(|error| {
            RunError::Setup(format!("`{}` cannot be read: {error}", path.display()))
        })?;
        terminal.log(&String::from_utf8_lossy(&text));
        Ok(ExitCode::SUCCESS)
    }
}
