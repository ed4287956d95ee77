//! `gradus check`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gradus_engine::spec::Mistakes;

use super::common::{ParameterArgs, load_plan};
use crate::{failure::Failure, terminal::Terminal};

/// Check pipelines without running them
///
/// Resolves every edge and checks every parameter. Needs no worker and no GPU.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Pipeline files to check (can be repeated)
    #[arg(required = true, value_name = "PIPELINE")]
    pipelines: Vec<PathBuf>,
    #[command(flatten)]
    parameters: ParameterArgs,
}

impl Check {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let mut sound = Vec::new();
        let mut mistakes = Mistakes::default();
        for path in &self.pipelines {
            match load_plan(path, &self.parameters) {
                Ok(plan) => sound.push((path.clone(), plan)),
                Err(Failure::Mistakes(found)) => mistakes.list.extend(found.list),
                Err(failure) => return Err(failure),
            }
        }
        Ok(terminal.checked(&sound, &mistakes))
    }
}
