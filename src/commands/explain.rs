//! `gradus explain`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::Settings;

use super::common::{PipelineArgs, PlaceArgs, one_stage};
use crate::{failure::Failure, terminal::Terminal};

/// Show all that a stage's result depends on, beside what it was the last time
///
/// Every row enters the stage's fingerprint; a row that differs is marked.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Explain {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let index = one_stage(&plan, &self.stage)?;
        let selected = plan.select(&[self.stage])?;
        let session = self.place.session(&self.pipeline.pipeline, Settings::default())?;
        let explanation = session.explain(&plan, index, &selected)?;
        terminal.explanation(&plan.stages[index], &explanation);
        Ok(ExitCode::SUCCESS)
    }
}
