//! `gradus check`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gradus_engine::{
    plan::{Plan, told},
    project::Project,
    run::Settings,
    spec::{Mistakes, Pipeline},
};

use super::{
    common::{ParameterArgs, PlaceArgs, load_both},
    looking::{look, that_read_files},
};
use crate::{failure::Failure, terminal::Terminal};

/// Check pipelines without running them
///
/// Resolves every edge and checks every parameter, and looks at the beginnings of the files that stages read. Needs no GPU.
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
            match load_both(path, &self.parameters.overrides()) {
                Ok((pipeline, plan)) => {
                    let wrong = files(path, &pipeline, &plan, terminal)?;
                    if wrong.list.is_empty() {
                        sound.push((path.clone(), plan));
                    }
                    mistakes.list.extend(wrong.list);
                }
                Err(Failure::Mistakes(found)) => mistakes.list.extend(found.list),
                Err(failure) => return Err(failure),
            }
        }
        Ok(terminal.checked(&sound, &mistakes))
    }
}

/// What is wrong with the files that the stages read. Where nobody can look, that is said.
fn files(
    path: &Path,
    pipeline: &Pipeline,
    plan: &Plan,
    terminal: &mut Terminal,
) -> Result<Mistakes, Failure> {
    // A check leaves nothing behind, no cache either.
    let own = Project::of(path, None)?.cache;
    let aside = tempfile::tempdir().map_err(|error| {
        Failure::refused(format!("there is no room for a temporary folder: {error}"), "set TMPDIR")
    })?;
    let cache = if own.is_dir() { own } else { aside.path().to_owned() };
    let place = PlaceArgs { device: "cpu".to_owned(), cache: Some(cache) };
    let session = place.session(path, Settings::default())?;
    let all: Vec<usize> = (0..plan.stages.len()).collect();
    let stages = that_read_files(&session, plan, &all);
    if stages.is_empty() {
        return Ok(Mistakes::default());
    }
    match look(&session, plan, &stages)? {
        Ok(looked) => Ok(told(plan, pipeline, &looked.wrong, &looked.known)),
        Err(error) => {
            terminal.not_looked(path, &error.full());
            Ok(Mistakes::default())
        }
    }
}
