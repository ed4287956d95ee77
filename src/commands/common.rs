//! What most commands need: the pipeline with its parameters, and a session with its cache.

use std::path::{Path, PathBuf};

use clap::Args;
use gradus_cache::Cache;
use gradus_engine::{
    plan::{self, Plan},
    plugin,
    project::Project,
    run::{Devices, History, RunError, RunRecord, Session, Settings, detect_gpus},
    spec::{self, Mistakes, Overrides, Pipeline},
};
use gradus_protocol::catalog::Catalog;

use crate::failure::Failure;

/// Which pipeline, with which parameters
#[derive(Debug, Clone, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline's YAML file
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    #[command(flatten)]
    pub(crate) parameters: ParameterArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ParameterArgs {
    /// Set a parameter of the pipeline, e.g. `beta=0.2` or `data.train=pairs.jsonl`
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Take parameters from a YAML file; `--set` wins over it
    #[arg(long = "params", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What all random choices derive from, in place of the pipeline's `seed`
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// Where to run and where to keep results
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// auto, cpu, cuda (every GPU), or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "GRADUS_DEVICE")]
    pub(crate) device: String,
    /// The cache's folder instead of the project's `.gradus`
    #[arg(long, value_name = "DIR", env = "GRADUS_CACHE")]
    pub(crate) cache: Option<PathBuf>,
}

/// Whether other machines' results are used
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoteArgs {
    /// Ask no remote, and upload nothing
    #[arg(long)]
    pub(crate) no_remote: bool,
}

/// Which cache, where no pipeline says it
#[derive(Debug, Clone, Args)]
pub(crate) struct CacheArgs {
    /// The cache's folder instead of the project's `.gradus`
    #[arg(long, value_name = "DIR", env = "GRADUS_CACHE")]
    pub(crate) cache: Option<PathBuf>,
}

impl CacheArgs {
    pub(crate) fn open(&self) -> Result<Cache, Failure> {
        self.open_for(None)
    }

    /// The cache of the project that `pipeline` lies in, else of the current folder's.
    pub(crate) fn open_for(&self, pipeline: Option<&Path>) -> Result<Cache, Failure> {
        let pipeline = pipeline.unwrap_or(Path::new("pipeline.yaml"));
        let project = Project::of(pipeline, self.cache.as_deref())?;
        Ok(Cache::open(&project.cache)?)
    }
}

/// All runs, the newest first; with a pipeline's file, those of that alone.
pub(crate) fn runs(cache: &Cache, pipeline: Option<&Path>) -> Result<Vec<RunRecord>, Failure> {
    let Some(path) = pipeline else { return Ok(History::all(cache)) };
    let file = path.canonicalize().map_err(|error| {
        Failure::refused(format!("`{}`: {error}", path.display()), "name a pipeline's file")
    })?;
    Ok(History::of(cache, &file))
}

impl PipelineArgs {
    /// The pipeline as it is, with nothing laid over it.
    pub(crate) fn of(pipeline: PathBuf) -> Self {
        let parameters = ParameterArgs { settings: Vec::new(), files: Vec::new(), seed: None };
        Self { pipeline, parameters }
    }

    /// The checked plan.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        load_plan(&self.pipeline, &self.parameters)
    }
}

/// The one stage that is called `name`: a stage, or one variant of a matrix.
pub(crate) fn one_stage(plan: &Plan, name: &str) -> Result<usize, Failure> {
    plan.select(std::slice::from_ref(&name.to_owned()))?;
    let all = plan.stages.iter().enumerate();
    let meant: Vec<_> = all.filter(|(_, stage)| plan::names(name, &stage.id)).collect();
    if let [(index, _)] = meant[..] {
        return Ok(index);
    }
    let ids: Vec<_> = meant.iter().map(|(_, stage)| stage.id.as_str()).collect();
    Err(Failure::refused(
        format!("`{name}` stands for several stages"),
        format!("name one: {}", ids.join(", ")),
    ))
}

pub(crate) fn load_plan(path: &Path, parameters: &ParameterArgs) -> Result<Plan, Failure> {
    load_asked(path, &parameters.overrides())
}

impl ParameterArgs {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            files: self.files.clone(),
            settings: self.settings.clone(),
            seed: self.seed,
            folder: PathBuf::from("."),
            ..Overrides::default()
        }
    }
}

/// The plan of the pipeline at `path`, read from what `overrides` holds of it.
pub(crate) fn load_asked(path: &Path, overrides: &Overrides) -> Result<Plan, Failure> {
    Ok(load_both(path, overrides)?.1)
}

/// The same, with the pipeline as it is written.
pub(crate) fn load_both(path: &Path, overrides: &Overrides) -> Result<(Pipeline, Plan), Failure> {
    let mut mistakes = Mistakes::default();
    match spec::load(path, overrides, &mut mistakes) {
        Some(pipeline) => {
            let plan = plan::plan(&pipeline, &kinds(path)?, mistakes)?;
            Ok((pipeline, plan))
        }
        None => Err(mistakes.into()),
    }
}

/// The kinds that a pipeline at `path` may use: gradus' own, and those of its project's workers.
pub(crate) fn kinds(path: &Path) -> Result<Catalog, Failure> {
    Ok(plugin::kinds(&catalog()?, &Project::of(path, None)?.plugins()?)?)
}

/// The same for the project that the current folder lies in.
pub(crate) fn kinds_here() -> Result<Catalog, Failure> {
    kinds(Path::new("pipeline.yaml"))
}

/// The kinds that this program knows; its worker must know the same.
fn catalog() -> Result<Catalog, Failure> {
    serde_json::from_str(include_str!("../../stages/catalog.json"))
        .map_err(|error| RunError::Setup(format!("the built-in catalogue: {error}")).into())
}

impl PlaceArgs {
    /// A session that knows of no other machine.
    pub(crate) fn session(&self, pipeline: &Path, settings: Settings) -> Result<Session, Failure> {
        self.session_with(pipeline, settings, &RemoteArgs { no_remote: true })
    }

    /// A session that asks the project's remote, if there is one.
    pub(crate) fn session_with(
        &self,
        pipeline: &Path,
        settings: Settings,
        remote: &RemoteArgs,
    ) -> Result<Session, Failure> {
        let project = Project::of(pipeline, self.cache.as_deref())?;
        let devices = Devices::choose(&self.device, &detect_gpus(), project.threads)
            .map_err(RunError::Setup)?;
        // Each stage computes with so many threads.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let by_cores = (cores / usize::try_from(project.threads).unwrap_or(1)).max(1);
        let remote = if remote.no_remote { None } else { project.open_remote()? };
        Ok(Session {
            cache: Cache::open(&project.cache)?,
            catalog: catalog()?,
            plugins: project.plugins()?,
            devices,
            settings: Settings {
                checkpoint: project.checkpoint,
                cpu_slots: if settings.cpu_slots == 0 { by_cores } else { settings.cpu_slots },
                ..settings
            },
            project: project.root,
            remote,
        })
    }
}
