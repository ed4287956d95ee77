//! `gradus cache`: results shared with other machines, and the soundness of those here.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use gradus_engine::{
    project::Project,
    run::{RunError, Settings, push_all, verify},
};
use gradus_remote::{PushError, Remote, SigningKey};

use super::common::{CacheArgs, ParameterArgs, PlaceArgs, RemoteArgs, load_plan};
use crate::{failure::Failure, terminal::Terminal};

/// Share results with other machines, and check those that are here
#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Upload results that the remote lacks
    Push(Push),
    /// Fetch all that the remote has of a pipeline
    Pull(Pull),
    /// Hash every file and check every result; set aside what is damaged
    Verify(CacheArgs),
    /// Make a key to sign results with, and print its public half
    Key {
        /// Where its secret half goes: a new file, for the owner alone
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Push {
    /// Whose stages to upload, as far as they are cached
    #[arg(value_name = "PIPELINE", required_unless_present = "all")]
    pipeline: Option<PathBuf>,
    /// Upload all that is cached
    #[arg(long, conflicts_with = "pipeline")]
    all: bool,
    #[command(flatten)]
    parameters: ParameterArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct Pull {
    /// Whose stages to fetch
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
    /// Only these stages and what they need
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    #[command(flatten)]
    parameters: ParameterArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Cache {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self.what {
            What::Push(it) => it.exec(terminal),
            What::Pull(it) => it.exec(terminal),
            What::Verify(cache) => {
                let (verified, suspects) = verify(&cache.open()?)?;
                terminal.verified(&verified, &suspects);
                Ok(ExitCode::from(u8::from(!verified.is_sound())))
            }
            What::Key { file } => {
                let key = SigningKey::make(&file).map_err(RunError::from)?;
                terminal.key(&file, &key.public().to_string());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Push {
    fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let here = Path::new("pipeline.yaml");
        let remote = remote(self.pipeline.as_deref().unwrap_or(here), &self.place)?;
        remote.may_write().map_err(RunError::from)?;
        let place = remote.place().clone();
        let pushed = if let Some(pipeline) = &self.pipeline {
            let plan = load_plan(pipeline, &self.parameters)?;
            let selected = plan.select(&[])?;
            let session = self.place.session(pipeline, Settings::default())?;
            session.push(&remote, &plan, &selected)
        } else {
            let project = Project::of(here, self.place.cache.as_deref())?;
            push_all(&remote, &gradus_cache::Cache::open(&project.cache)?)
        };
        let pushed = pushed.map_err(|error| match error {
            PushError::Cache(error) => Failure::from(error),
            PushError::Open(error) => RunError::from(error).into(),
            error => Failure::Refused {
                message: format!("the upload to `{place}` did not come to its end: {error}"),
                help: Some("what is there already is not sent again".to_owned()),
            },
        })?;
        terminal.moved("pushed", &place, &pushed);
        Ok(ExitCode::SUCCESS)
    }
}

impl Pull {
    fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = load_plan(&self.pipeline, &self.parameters)?;
        let selected = plan.select(&self.targets)?;
        let asked = RemoteArgs { no_remote: false };
        let session = self.place.session_with(&self.pipeline, Settings::default(), &asked)?;
        let remote = session.remote.as_ref().ok_or_else(no_remote)?;
        let pulled = session.pull(remote, &plan, &selected)?;
        terminal.warnings(&pulled.warnings);
        terminal.moved("pulled", remote.place(), &pulled);
        Ok(ExitCode::from(u8::from(!pulled.warnings.is_empty())))
    }
}

/// The remote of the project that `pipeline` lies in.
fn remote(pipeline: &Path, place: &PlaceArgs) -> Result<Remote, Failure> {
    let project = Project::of(pipeline, place.cache.as_deref())?;
    project.open_remote()?.ok_or_else(no_remote)
}

fn no_remote() -> Failure {
    Failure::refused(
        "the project has no remote",
        "name one in gradus.toml: `[remote]` with `url = \"s3://bucket/prefix\"`",
    )
}
