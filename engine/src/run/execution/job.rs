//! What a worker is asked, and what it says on the way.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use gradus_cache::{Artifact, Cache, Form};
use gradus_protocol::{Checkpoints, Input, Job, Reply, Source, TAKE};
use serde_json::json;

use super::{resolve::Resolved, shared::Shared};
use crate::{
    error::RunError,
    event::{Event, Metrics},
    plan::{From, Stage},
    run::session::Session,
};

/// What a worker said, for the listeners; final numbers are kept for the action.
pub(crate) fn event_of(stage: &str, reply: Reply, metrics: &Mutex<Metrics>) -> Option<Event> {
    let stage = stage.to_owned();
    match reply {
        Reply::Progress { done, total, unit, note } => {
            Some(Event::Progress { stage, done, total, unit, note })
        }
        Reply::Metric { name, step, value } => {
            if step.is_none() {
                let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
                metrics.insert(name.clone(), value);
            }
            Some(Event::Metric { stage, name, step, value })
        }
        Reply::Note { words } => Some(Event::Note { stage: Some(stage), message: words }),
        Reply::Hello { .. } | Reply::Alive | Reply::Saving | Reply::Done | Reply::Failed { .. } => {
            None
        }
    }
}

/// What the worker is asked to do; it writes its outputs into `folder`.
pub(crate) fn job(
    shared: &Shared,
    resolved: &Resolved,
    stage: &Stage,
    folder: &Path,
    anew: bool,
) -> Result<Job, RunError> {
    let outputs = stage.kind.outputs.iter();
    let checkpoint = shared.session.settings.checkpoint;
    Ok(Job {
        kind: stage.kind.kind.clone(),
        params: stage.params.clone(),
        inputs: job_inputs(shared, resolved, stage)?,
        outputs: outputs.map(|port| (port.name.clone(), folder.join(&port.name))).collect(),
        seed: resolved.seed,
        threads: shared.session.devices.threads,
        checkpoints: Some(Checkpoints {
            folder: shared.session.cache.checkpoints(&resolved.work),
            every_steps: checkpoint.every_steps,
            every_seconds: checkpoint.every_seconds,
            keep_last: shared.keeps_last(stage),
            anew,
        }),
        ledger: Some(shared.session.cache.ledger()),
    })
}

/// What the worker is asked about the artifact at `path`, which says that it is a `port_type`.
pub(crate) fn taking(
    session: &Session,
    port_type: &str,
    path: &Path,
    to: &Path,
) -> Result<Job, RunError> {
    let source = if path.is_dir() {
        Source::Tree(session.cache.all_files(path)?)
    } else {
        Source::File(path.to_owned())
    };
    let input = Input { label: String::new(), source };
    Ok(Job {
        kind: TAKE.to_owned(),
        params: json!({ "type": port_type }),
        inputs: [("artifact".to_owned(), vec![input])].into(),
        outputs: [("artifact".to_owned(), to.to_owned())].into(),
        seed: 0,
        threads: session.devices.threads,
        checkpoints: None,
        ledger: None,
    })
}

/// Where the worker finds each input: in the store, or where the user has it.
fn job_inputs(
    shared: &Shared,
    resolved: &Resolved,
    stage: &Stage,
) -> Result<BTreeMap<String, Vec<Input>>, RunError> {
    let mut inputs: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for wire in &stage.inputs {
        let position = taken.entry(&wire.port).or_default();
        let (label, artifact) = &resolved.known.inputs[&wire.port][*position];
        *position += 1;
        let source = match &wire.from {
            From::File(path) => user_source(&shared.session.cache, path, &stage.conduct.ignore)?,
            From::Stage(..) => stored_source(shared, artifact)?,
        };
        inputs.entry(wire.port.clone()).or_default().push(Input { label: label.clone(), source });
    }
    Ok(inputs)
}

fn stored_source(shared: &Shared, artifact: &Artifact) -> Result<Source, RunError> {
    let cache = &shared.session.cache;
    if artifact.form == Form::Blob {
        return Ok(Source::File(cache.file(&artifact.digest)));
    }
    let entries = cache.tree(&artifact.digest)?;
    Ok(Source::Tree(
        entries.files.into_iter().map(|(name, blob)| (name, cache.file(&blob.digest))).collect(),
    ))
}

pub(crate) fn user_source(
    cache: &Cache,
    path: &Path,
    ignore: &[String],
) -> Result<Source, RunError> {
    if path.is_file() {
        return Ok(Source::File(path.to_owned()));
    }
    Ok(Source::Tree(cache.user_files(path, ignore)?.files))
}
