//! Runs an `exec` stage: a program in a folder of its own, with copies of its inputs.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use gradus_cache::{Artifact, Cache};
use gradus_protocol::{Page, Reached};
use tokio::{process, sync::watch};

use super::{
    guard::{Group, guard},
    log::Log,
    measured,
    rows::Rows,
    secret::Secrets,
    stop::{CANCEL_WITHIN, Stop, killed, stopped},
};
use crate::{
    error::RunError,
    event::Metrics,
    plan::{Command, Exec, From, Stage, variable},
};

/// Variables that every program gets from the person's own environment.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];
/// How often one looks at what it has made of its rows.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for everybody, as words are sorted and numbers written by it.
const LANG: &str = "C.UTF-8";

/// What a program finds around it.
pub(crate) struct Around<'a> {
    pub(crate) cache: &'a Cache,
    /// Its own folder.
    pub(crate) folder: &'a Path,
    pub(crate) log: &'a Log,
    pub(crate) secrets: &'a Secrets,
    /// `cuda:N`, for one that asks for a GPU.
    pub(crate) device: &'a str,
    /// Where what it makes of single rows is kept.
    pub(crate) page: Page,
    /// Hears how many rows are done.
    pub(crate) reached: &'a (dyn Fn(Reached) + Sync),
}

/// Where `PATH` finds the program of that name, behind all links.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places = env::split_paths(&path).map(|folder| folder.join(name));
    let runs = |place: &PathBuf| {
        let found = fs::metadata(place);
        found.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    places.into_iter().find(runs)?.canonicalize().ok()
}

/// What a program left behind.
pub(crate) struct Left {
    /// Where each output lies.
    pub(crate) outputs: BTreeMap<String, PathBuf>,
    pub(crate) metrics: Metrics,
}

/// Runs the program.
pub(crate) async fn run(
    exec: &Exec,
    stage: &Stage,
    inputs: &BTreeMap<String, Vec<(String, Artifact)>>,
    around: &Around<'_>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Left, RunError> {
    let Around { cache, folder, secrets, .. } = *around;
    bring_inputs(stage, inputs, cache, folder)?;
    for path in exec.outputs.values() {
        if let Some(parent) = folder.join(path).parent() {
            fs::create_dir_all(parent).map_err(RunError::io("the stage's folder"))?;
        }
    }
    let rows = exec.rows.as_ref().map(|(input, output)| {
        let input = folder.join("inputs").join(input);
        Rows::begin(around.page.clone(), &input, folder.join(&exec.outputs[output]), secrets)
    });
    let mut rows = rows.transpose()?;
    if rows.as_ref().is_none_or(Rows::is_left) {
        carried_out(exec, stage, around, &mut rows, stop).await?;
    }
    rows.map_or(Ok(()), Rows::end)?;
    left(exec, folder, secrets)
}

/// Runs the program to its end.
async fn carried_out(
    exec: &Exec,
    stage: &Stage,
    around: &Around<'_>,
    rows: &mut Option<Rows<'_>>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(), RunError> {
    let Around { folder, log, secrets, reached, .. } = *around;
    let words = match &exec.command {
        Command::Arguments(list) => list[0].clone(),
        Command::Shell(_) => "sh".to_owned(),
    };
    let mut command = command(exec, stage, around);
    guard(&mut command);
    let mut child = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| RunError::Stage(format!("`{words}` cannot be started: {error}")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let drained = [
        stdout.map(|stream| tokio::spawn(log.clone().drain(stream, secrets.mask()))),
        stderr.map(|stream| tokio::spawn(log.clone().drain(stream, secrets.mask()))),
    ];
    let group = Group::of(&child);
    let mut look = || {
        let Some(rows) = rows.as_mut() else { return };
        if let Err(error) = rows.look() {
            tracing::warn!(%error, "what the program makes of its rows is not kept yet");
        }
        reached(rows.reached());
    };
    let mut every = tokio::time::interval(LOOK_EVERY);
    let status = loop {
        tokio::select! {
            status = child.wait() => {
                break status.map_err(RunError::io("the program cannot be waited for"))?;
            }
            _ = every.tick() => look(),
            () = stopped(stop) => {
                group.signal(libc::SIGTERM);
                tokio::select! {
                    _ = tokio::time::timeout(CANCEL_WITHIN, child.wait()) => {}
                    () = killed(stop) => {}
                }
                look();
                return Err(RunError::Cancelled);
            }
        }
    };
    // What it left running could still write to what is about to be taken in.
    drop(group);
    for stream in drained.into_iter().flatten() {
        // A grandchild may hold the pipe open for ever: what it still says is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream).await;
    }
    if !status.success() {
        look();
        return Err(RunError::Died(format!("`{words}` failed with {status}")));
    }
    Ok(())
}

/// The program with its arguments and its environment.
fn command(exec: &Exec, stage: &Stage, around: &Around<'_>) -> process::Command {
    let mut command = match &exec.command {
        Command::Arguments(list) => {
            let mut command = process::Command::new(&list[0]);
            command.args(&list[1..]);
            command
        }
        Command::Shell(text) => {
            let mut command = process::Command::new("sh");
            command.args(["-e", "-c", text]);
            command
        }
    };
    command.env_clear();
    command.env("LANG", LANG);
    command.envs(PASSED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.envs(
        stage
            .inputs
            .iter()
            .map(|wire| (variable("INPUT", &wire.port), format!("inputs/{}", wire.port))),
    );
    command.envs(exec.outputs.iter().map(|(name, path)| (variable("OUTPUT", name), path.clone())));
    if stage.conduct.resources.on_gpu().is_some() {
        command.env("CUDA_VISIBLE_DEVICES", visible(around.device));
    }
    command.envs(&exec.env);
    command.envs(around.secrets.values.iter().map(|(name, value)| (name, value)));
    command
}

/// What the program left behind.
fn left(exec: &Exec, folder: &Path, secrets: &Secrets) -> Result<Left, RunError> {
    let metrics = exec.metrics.as_ref().map(|path| measured(path, folder, secrets));
    let outputs = exec
        .outputs
        .iter()
        .map(|(name, path)| {
            let place = folder.join(path);
            let Ok(real) = place.canonicalize() else {
                return Err(RunError::Stage(format!(
                    "the program ended well but left no `{path}`, the output `{name}`"
                )));
            };
            // Through a link somebody else's file would be moved into the store.
            if folder.canonicalize().ok().map(|folder| folder.join(path)) != Some(real) {
                return Err(RunError::Stage(format!(
                    "a symbolic link stands at or above `{path}`, the output `{name}`: put the file itself there"
                )));
            }
            let leaked = secrets.below(&place).map_err(RunError::io("an output cannot be read"))?;
            if let Some(secret) = leaked {
                return Err(RunError::Stage(format!(
                    "the output `{name}` holds the secret `{secret}`, and so is not kept"
                )));
            }
            Ok((name.clone(), place))
        })
        .collect::<Result<_, _>>()?;
    Ok(Left { outputs, metrics: metrics.transpose()?.unwrap_or_default() })
}

fn measured(path: &str, folder: &Path, secrets: &Secrets) -> Result<Metrics, RunError> {
    let place = folder.join(path);
    if !place.exists() {
        return Err(RunError::Stage(format!(
            "the program ended well but left no `{path}`, its `metrics`"
        )));
    }
    if let Some(secret) = secrets.below(&place).map_err(RunError::io("`metrics` cannot be read"))? {
        return Err(RunError::Stage(format!(
            "`{path}`, its `metrics`, holds the secret `{secret}`"
        )));
    }
    measured::read(&place).map_err(|why| RunError::Stage(format!("`{path}`, its `metrics`: {why}")))
}

/// The GPU as a program knows it: of those that the person may use, the one of this slot.
fn visible(device: &str) -> String {
    let Some(number) = device.strip_prefix("cuda:") else { return String::new() };
    let all = env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let own = number.parse::<usize>().ok().and_then(|number| all.split(',').nth(number));
    own.filter(|own| !own.is_empty()).unwrap_or(number).to_owned()
}

fn bring_inputs(
    stage: &Stage,
    inputs: &BTreeMap<String, Vec<(String, Artifact)>>,
    cache: &Cache,
    folder: &Path,
) -> Result<(), RunError> {
    let place = folder.join("inputs");
    fs::create_dir_all(&place).map_err(RunError::io("the stage's folder"))?;
    for wire in &stage.inputs {
        let to = place.join(&wire.port);
        match &wire.from {
            From::File(path) => copy(cache, path, &stage.conduct.ignore, &to)?,
            From::Stage(..) => {
                for (_, artifact) in inputs.get(&wire.port).into_iter().flatten() {
                    cache.materialise(artifact, &to)?;
                }
            }
        }
    }
    Ok(())
}

/// A plain copy of a user's file or folder.
fn copy(cache: &Cache, from: &Path, ignore: &[String], to: &Path) -> Result<(), RunError> {
    let copied = |from: &Path, to: &Path| {
        let failed = RunError::io(format!("`{}` cannot be copied", from.display()));
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::copy(from, to)).map(drop).map_err(failed)
    };
    if !from.is_dir() {
        return copied(from, to);
    }
    fs::create_dir_all(to).map_err(RunError::io("the stage's folder"))?;
    let found = cache.user_files(from, ignore)?;
    for path in found.empty.iter().map(|path| to.join(path)) {
        fs::create_dir_all(path).map_err(RunError::io("the stage's folder"))?;
    }
    found.files.iter().try_for_each(|(name, file)| copied(file, &to.join(name)))
}
