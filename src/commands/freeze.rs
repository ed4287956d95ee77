//! `gradus freeze`.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

use clap::Args;
use gradus_engine::{
    plan::Plan,
    run::{RunError, Settings, State},
    spec::{self, Mistakes, Overrides, Pipeline, Reference, StageSpec},
};

use super::common::{PipelineArgs, PlaceArgs};
use crate::{failure::Failure, terminal::Terminal};

/// Write into the pipeline that a stage keeps the result it has, whatever changes
///
/// It is never computed again: `plan` says why it would have been. `--thaw` takes that out again.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// A stage of the pipeline's own file; all variants of a matrix by its name
    #[arg(value_name = "STAGE")]
    stage: String,
    /// Let it be computed again
    #[arg(long)]
    thaw: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Freeze {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let selected = plan.select(std::slice::from_ref(&self.stage))?;
        let file = &self.pipeline.pipeline;
        let pipeline = read(file)?;
        let reference = Reference::parse(&self.stage);
        let name = reference.map_or(self.stage.as_str(), |it| it.stage);
        let spec = pipeline.stages.iter().find(|it| it.name == name && it.prefix.is_empty());
        let spec = spec.ok_or_else(|| {
            Failure::refused(
                format!("`{name}` is a stage of an included file"),
                "freeze it in that file, which may be included elsewhere as well",
            )
        })?;
        let results = if self.thaw { BTreeMap::new() } else { self.results(&plan, &selected)? };
        let value = written(spec, &results, self.thaw);
        let text = pipeline.text_with_frozen(spec, value.as_deref());
        let before = pipeline.sources.get(spec.at).text.clone();
        let by_hand = || {
            let value = value.clone().unwrap_or_default();
            Failure::refused(
                format!(
                    "`{}` is not written so that a key can be put into `{name}`",
                    file.display()
                ),
                format!("write it yourself: `frozen: {value}`"),
            )
        };
        let text = text.ok_or_else(by_hand)?;
        let write = |text: &str| {
            replace(file, text).map_err(|error| {
                RunError::Setup(format!("`{}` cannot be written: {error}", file.display()))
            })
        };
        write(&text)?;
        // What was written is read as a run would: else it is as it was.
        let holds = self.pipeline.plan().is_ok_and(|plan| {
            plan.stages.iter().filter(|stage| stage.spec == name).all(|stage| {
                let wanted = results.get(&stage.id);
                if self.thaw {
                    stage.conduct.frozen.is_none()
                } else {
                    wanted.is_none_or(|it| {
                        stage.conduct.frozen.map(|it| it.to_string()).as_ref() == Some(it)
                    })
                }
            })
        });
        if !holds {
            write(&before)?;
            return Err(by_hand());
        }
        terminal.frozen(name, &results, file);
        Ok(ExitCode::SUCCESS)
    }

    /// The result that each of the meant stages has.
    fn results(
        &self,
        plan: &Plan,
        selected: &[usize],
    ) -> Result<BTreeMap<String, String>, Failure> {
        let session = self.place.session(&self.pipeline.pipeline, Settings::default())?;
        let meant = |id: &str| gradus_engine::plan::names(&self.stage, id);
        let mut results = BTreeMap::new();
        for preview in session.preview_here(plan, selected)? {
            let stage = &plan.stages[preview.stage];
            match (meant(&stage.id), preview.action) {
                (false, _) => {}
                (true, Some(action)) => {
                    _ = results.insert(stage.id.clone(), action.fingerprint.to_string());
                }
                (true, None) => {
                    let why = match preview.state {
                        State::WouldRun(why) => why.to_string(),
                        _ => "what it reads is not there yet".to_owned(),
                    };
                    return Err(Failure::refused(
                        format!("`{}` has no result to keep: {why}", stage.id),
                        format!("gradus run {} '{}'", self.pipeline.pipeline.display(), stage.id),
                    ));
                }
            }
        }
        Ok(results)
    }
}

/// Puts `text` in the place of what the file holds: all of it or, whatever happens, nothing.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let real = file.canonicalize()?;
    let mut aside = real.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, text)?;
    fs::set_permissions(&aside, fs::metadata(&real)?.permissions())?;
    fs::rename(aside, real)
}

fn read(file: &Path) -> Result<Pipeline, Failure> {
    let mut mistakes = Mistakes::default();
    match spec::load(file, &Overrides::default(), &mut mistakes) {
        Some(pipeline) => Ok(pipeline),
        None => Err(mistakes.into()),
    }
}

/// The key's value: a result, or for variants a map of them, with those that stay frozen.
fn written(spec: &StageSpec, results: &BTreeMap<String, String>, thaw: bool) -> Option<String> {
    if thaw {
        return None;
    }
    let variant = |id: &str| Reference::parse(id).and_then(|it| it.variant.map(str::to_owned));
    if let Some(result) = results.get(&spec.name) {
        return Some(result.clone());
    }
    let before = spec.frozen().into_iter().flat_map(|entry| entry.value.entries());
    let before = before.filter_map(|it| Some((it.key.clone(), it.value.as_text()?.to_owned())));
    let mut all: BTreeMap<String, String> = before.collect();
    all.extend(results.iter().filter_map(|(id, result)| Some((variant(id)?, result.clone()))));
    let all: Vec<_> = all.iter().map(|(variant, it)| format!("{variant:?}: {it}")).collect();
    Some(format!("{{ {} }}", all.join(", ")))
}
