//! `gradus export`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gradus_cache::{Artifact, Form};
use gradus_engine::{
    plan::names,
    run::{RunError, Settings, State},
};

use super::common::{PipelineArgs, PlaceArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Write a stage's outputs as plain files
///
/// The stage must be cached for the pipeline as it is now. A model becomes a Hugging Face folder.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// A stage (all its outputs), or `stage.output`
    #[arg(value_name = "STAGE")]
    stage: String,
    /// A folder that does not exist yet, or is empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Export {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let file = &self.pipeline.pipeline;
        // A matrix variant may have dots in its brackets: only what follows them names an output.
        let bracket = self.stage.rfind(']').map_or(0, |end| end + 1);
        let (name, output) = match self.stage[bracket..].split_once('.') {
            Some((head, output)) => {
                (format!("{}{head}", &self.stage[..bracket]), Some(output.to_owned()))
            }
            None => (self.stage.clone(), None),
        };
        let selected = plan.select(std::slice::from_ref(&name))?;
        let session = self.place.session(file, Settings::default())?;
        let previews = session.preview_here(&plan, &selected)?;
        let of_stage =
            previews.iter().filter(|preview| names(&name, &plan.stages[preview.stage].id));
        let found: Vec<_> = of_stage.collect();
        let [preview] = found.as_slice() else {
            let ids = found.iter().map(|it| plan.stages[it.stage].id.as_str());
            return Err(Failure::refused(
                format!("`{name}` stands for several stages"),
                format!("name one: {}", ids.collect::<Vec<_>>().join(", ")),
            ));
        };
        let Some(action) = preview.action.as_ref().filter(|_| preview.state == State::Cached)
        else {
            return Err(Failure::refused(
                format!("`{name}` is not in the cache as the pipeline is now"),
                format!("gradus run {} {name}", file.display()),
            ));
        };
        if self.folder.is_file() {
            let message = format!("`{}` is a file", self.folder.display());
            return Err(Failure::refused(message, "name a new folder"));
        }
        let empty = self.folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
        if !empty {
            let message = format!("`{}` is not empty", self.folder.display());
            return Err(Failure::refused(message, "name a new folder: nothing is overwritten"));
        }
        let artifacts: Vec<(&String, &Artifact)> = action
            .outputs
            .iter()
            .filter(|(port, _)| output.as_ref().is_none_or(|output| output == *port))
            .collect();
        if artifacts.is_empty() {
            let known: Vec<_> = action.outputs.keys().map(String::as_str).collect();
            return Err(Failure::refused(
                format!("`{name}` has no output `{}`", output.unwrap_or_default()),
                format!("its outputs: {}", known.join(", ")),
            ));
        }
        let mut written = Vec::new();
        for (port, artifact) in artifacts {
            // One folder asked for by name is the folder itself.
            let alone = output.is_some() && artifact.form == Form::Tree;
            let to = if alone { self.folder.clone() } else { self.folder.join(port) };
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(|error| {
                    RunError::Setup(format!("`{}` cannot be made: {error}", parent.display()))
                })?;
            }
            if alone && to.exists() {
                std::fs::remove_dir(&to).map_err(|error| {
                    RunError::Setup(format!("`{}` cannot be replaced: {error}", to.display()))
                })?;
            }
            session.cache.materialise(artifact, &to)?;
            written.push((port.clone(), to, artifact.bytes));
        }
        terminal.exported(&written);
        Ok(ExitCode::SUCCESS)
    }
}
