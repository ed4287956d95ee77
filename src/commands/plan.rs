//! `gradus plan`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::Settings;

use super::common::{PipelineArgs, PlaceArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Say for every stage whether it is cached, would run, or cannot be known yet
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Plan {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let selected = plan.select(&self.targets)?;
        let left_out = if self.targets.is_empty() { &plan.left_out[..] } else { &[] };
        let settings = Settings { targets: self.targets, ..Settings::default() };
        let session = self.place.session(&self.pipeline.pipeline, settings)?;
        terminal.previews(&plan, &session.preview(&plan, &selected)?, left_out);
        Ok(ExitCode::SUCCESS)
    }
}
