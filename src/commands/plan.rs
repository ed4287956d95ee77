//! `gradus plan`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::{Settings, State};

use super::common::{PipelineArgs, PlaceArgs, RemoteArgs};
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
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Plan {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let selected = plan.select(&self.targets)?;
        let left_out = if self.targets.is_empty() { &plan.left_out[..] } else { &[] };
        let settings = Settings { targets: self.targets, ..Settings::default() };
        let file = &self.pipeline.pipeline;
        let session = self.place.session_with(file, settings, &self.remote)?;
        terminal.warnings_of(&plan);
        let (previews, mut warnings) = session.preview(&plan, &selected)?;
        for preview in &previews {
            let stage = &plan.stages[preview.stage];
            if matches!(preview.state, State::WouldRun(_) | State::Unknown)
                && let Some(why) = session.unmet(stage)
            {
                warnings.push(format!("{}: if it has to run, it will fail: {why}", stage.id));
            }
        }
        terminal.warnings(&warnings);
        let estimate = session.estimate(&plan, &previews);
        terminal.previews(&plan, &previews, left_out, estimate.as_ref());
        Ok(ExitCode::SUCCESS)
    }
}
