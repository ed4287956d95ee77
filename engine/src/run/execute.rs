//! One stage of a run, from its fingerprint to its action.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use gradus_cache::{Action, Artifact, Cache, Form, MAKE_SPACE};
use gradus_protocol::{Checkpoints, Input, Job, Reply, Source};
use tokio::sync::watch;

use super::{
    Made, RunError,
    clock::Clock,
    devices,
    program::{self, Around},
    resolve::{self, Actions, Resolved},
    retry,
    schedule::{Shared, Stop},
    seal::seal,
    secret::Secrets,
    turn::{Turn, turn},
};
use crate::{
    event::{Event, Metrics},
    plan::Stage,
};

/// Events of cached stages that are told at once.
const BURST: usize = 500;

/// A stage's outcome as the scheduler needs it.
pub(super) struct Ended {
    pub(super) action: Action,
    pub(super) cached: bool,
}

/// Brings one stage to its action: from the cache, or by running it.
pub(super) async fn execute(
    shared: Arc<Shared>,
    index: usize,
    sources: Actions,
    mut stop: watch::Receiver<Stop>,
) -> Result<Ended, RunError> {
    let resolved = {
        let shared = Arc::clone(&shared);
        blocking(move || {
            let stage = &shared.plan.stages[index];
            Ok(resolve::resolve(&shared.session, &shared.plan, stage, &sources)?)
        })
        .await?
    };
    let Some(resolved) = resolved else {
        let id = &shared.plan.stages[index].id;
        return Err(RunError::Setup(format!("stage `{id}` was started before its inputs")));
    };
    // Two stages of one run may be the same work: the second waits and finds it done, forced or not, or
    // goes on from it.
    let queue = shared.queue(resolved.work);
    let _first = queue.lock().await;
    let stage = &shared.plan.stages[index];
    // Another process may be at the same work: then this one waits for its result.
    let (slot, _lease, mut anew) = match turn(&shared, stage, &resolved, &mut stop).await? {
        Turn::Ours(slot, lease, anew) => (slot, lease, anew),
        Turn::Cached(action) => {
            resolve::remember(&shared.session.cache, &shared.plan, stage, &resolved);
            shared.send(cached(stage, &action, false));
            return Ok(Ended { action, cached: true });
        }
        Turn::Fetched(action) => {
            resolve::remember(&shared.session.cache, &shared.plan, stage, &resolved);
            shared.send(cached(stage, &action, true));
            return Ok(Ended { action, cached: true });
        }
    };
    let mut failures = 0;
    let ran = loop {
        let mut clock = Clock::start(stage.conduct.timeout, &stop);
        let ran = run(&shared, index, &resolved, &slot.device, anew, clock.stop()).await;
        let ran = clock.judge(ran);
        if ran.is_err()
            && *stop.borrow() == Stop::No
            && let Some(vanished) = vanished(&shared, index, &resolved).await?
        {
            shared.not_yet(resolved.fingerprint);
            return Err(vanished);
        }
        // Another try goes on from what this one kept.
        anew = false;
        failures += 1;
        match &ran {
            Err(error) if retry::is_due(&shared, stage, error, failures) => {
                retry::pause(&shared, stage, error, failures, &mut stop).await?;
            }
            _ => break ran,
        }
    };
    // Said while the slot is still held, so that whoever waits for it hears of it.
    if ran.as_ref().is_err_and(|error| !matches!(error, RunError::Cancelled)) {
        shared.give_up();
    }
    Ok(Ended { action: ran?, cached: false })
}

/// What there is to tell of a stage that was found in the cache, or fetched into it.
fn cached(stage: &Stage, action: &Action, remote: bool) -> Event {
    Event::Cached {
        stage: stage.id.clone(),
        fingerprint: action.fingerprint,
        outputs: action.outputs.clone(),
        metrics: resolve::metrics_of(action),
        remote,
    }
}

/// Recalls in one go those of `selected` that are cached, and whose inputs are: all of them, mostly. What
/// is not found, or cannot be looked at, is left to [`execute`]. Says by stage what was found.
pub(super) fn recall_all(
    shared: &Shared,
    selected: &[usize],
    stop: &watch::Receiver<Stop>,
) -> Actions {
    let (cache, plan) = (&shared.session.cache, &shared.plan);
    let settled = cache.index().settled(&plan.key());
    let mut now = settled.clone();
    let mut actions = Actions::new();
    let mut events = Vec::new();
    for &index in selected {
        let stage = &shared.plan.stages[index];
        if *stop.borrow() != Stop::No || shared.session.runs_anyway(stage) {
            continue;
        }
        let found = resolve::resolve(&shared.session, plan, stage, &actions);
        let Ok(Some(resolved)) = found else { continue };
        let Ok(Some(action)) = cache.recall(&resolved.fingerprint) else { continue };
        if settled.get(&stage.id) != Some(&resolved.fingerprint) {
            resolve::remember(cache, plan, stage, &resolved);
            now.insert(stage.id.clone(), resolved.fingerprint);
        }
        events.push(cached(stage, &action, false));
        actions.insert(index, Arc::new(action));
        // One by one they would wake the listener as often.
        if events.len() == BURST {
            shared.send_all(&mut events);
        }
    }
    shared.send_all(&mut events);
    // Only if nothing is to run that will be noted.
    if actions.len() == selected.len() && now != settled {
        cache.index().settle(&plan.key(), &now);
    }
    actions
}

/// Adds to a stage's error that its disk is full, if it is: programs seldom say where.
fn with_room(cache: &Cache, error: RunError) -> RunError {
    match error {
        RunError::Stage(message) | RunError::Died(message) if cache.is_full() => {
            let place = cache.root().display();
            RunError::Stage(format!("{message}; the disk of `{place}` is full. {MAKE_SPACE}"))
        }
        error => error,
    }
}

/// Names the stages whose outputs this one reads and that are gone, if any.
async fn vanished(
    shared: &Arc<Shared>,
    index: usize,
    resolved: &Resolved,
) -> Result<Option<RunError>, RunError> {
    let (shared, inputs) = (Arc::clone(shared), resolved.known.inputs.clone());
    blocking(move || {
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        let mut sources = Vec::new();
        for wire in &shared.plan.stages[index].inputs {
            let position = taken.entry(&wire.port).or_default();
            let (_, artifact) = &inputs[&wire.port][*position];
            *position += 1;
            if let crate::plan::From::Stage(source, _) = &wire.from
                && !sources.contains(source)
                && !shared.session.cache.verify(artifact)?
            {
                sources.push(*source);
            }
        }
        let names = sources.iter().map(|it| format!("`{}`", shared.plan.stages[*it].id));
        let names = names.collect::<Vec<_>>().join(", ");
        Ok((!sources.is_empty()).then_some(RunError::Vanished { sources, names }))
    })
    .await
}

pub(super) async fn recall(
    shared: &Arc<Shared>,
    resolved: &Resolved,
) -> Result<Option<Action>, RunError> {
    let (cache, fingerprint) = (shared.session.cache.clone(), resolved.fingerprint);
    blocking(move || Ok(cache.recall(&fingerprint)?)).await
}

async fn run(
    shared: &Arc<Shared>,
    index: usize,
    resolved: &Resolved,
    device: &str,
    anew: bool,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Action, RunError> {
    let stage = &shared.plan.stages[index];
    let cache = &shared.session.cache;
    let secrets = Secrets::of(stage, &resolved.facts)?;
    shared.send(Event::Started {
        stage: stage.id.clone(),
        fingerprint: resolved.fingerprint,
        device: device.to_owned(),
        why: resolve::why(&shared.session, &shared.plan, stage, resolved, anew)?,
    });
    let began = Instant::now();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (attempt, sealed) = (cache.attempt()?, cache.attempt()?);
    let log_path = shared.log_path(&stage.id);
    let metrics = Arc::new(Mutex::new(Metrics::new()));
    let mut ran_on = device.to_owned();
    let staged = if let Some(exec) = &stage.exec {
        let log = super::log::Log::default();
        log.begin(&log_path).map_err(RunError::io("the stage's log cannot be written"))?;
        let inputs = &resolved.known.inputs;
        let folder = attempt.path();
        let around = Around { cache, folder, log: &log, secrets: &secrets, device };
        let ran = program::run(exec, stage, inputs, &around, stop).await;
        shared.keep_log(&stage.id, &log, ran.is_err());
        let outputs = ran.map_err(|error| with_room(cache, error))?;
        copied(stage, outputs, sealed.path()).await.map_err(|error| with_room(cache, error))?
    } else {
        let post = shared.post(stage, resolved, device);
        let mut worker = shared.worker(&post, stage, &log_path).await?;
        ran_on.clone_from(&worker.device);
        let job = job(shared, resolved, stage, attempt.path(), anew)?;
        let outputs = job.outputs.clone();
        let ran = {
            let (id, metrics) = (stage.id.clone(), Arc::clone(&metrics));
            worker
                .run(job, stop, |reply| {
                    if let Some(event) = event_of(&id, reply, &metrics) {
                        shared.send(event);
                    }
                })
                .await
        };
        shared.keep_log(&stage.id, &worker.log, ran.is_err());
        // After an error of the stage's own the worker is fine; after a crash it is dead already.
        if ran.is_ok() || worker.is_alive() {
            shared.put_back(post, worker);
        }
        ran.map_err(|error| with_room(cache, error))?;
        for (name, path) in &outputs {
            if !path.exists() {
                let kind = &stage.kind.kind;
                return Err(RunError::Stage(format!("`{kind}` ended without its output `{name}`")));
            }
        }
        outputs
    };
    if let Some(changed) = resolved.stats.iter().find(|stat| !stat.still_holds()) {
        return Err(RunError::Changed(changed.path.clone()));
    }
    let seconds = began.elapsed().as_secs_f64();
    let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let made = Made {
        kind: stage.kind.kind.clone(),
        facts: resolved.facts.clone(),
        metrics: metrics.clone(),
        seconds,
        started,
        run: shared.run_id(),
        pipeline: shared.plan.name.clone(),
        stage: stage.id.clone(),
        device: ran_on,
        gradus: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch: shared.libtorch_of(stage),
        git: None,
    };
    let action = {
        let (cache, fingerprint, work) = (cache.clone(), resolved.fingerprint, resolved.work);
        let kept = shared.keeps_last(stage);
        let shared = Arc::clone(shared);
        let committed = move || {
            let made = Made { git: shared.commit(), ..made };
            let action = cache.commit(&fingerprint, &staged, &made)?;
            // The stage is done; what it kept on the way only takes room until a sweep.
            if !kept && let Err(error) = cache.drop_checkpoints(&work) {
                tracing::warn!(%error, "the checkpoints of a finished stage stay");
            }
            Ok(action)
        };
        blocking(committed).await?
    };
    resolve::remember(cache, &shared.plan, stage, resolved);
    shared.upload(action.fingerprint);
    shared.send(Event::Finished {
        stage: stage.id.clone(),
        fingerprint: action.fingerprint,
        outputs: action.outputs.clone(),
        metrics,
        seconds,
    });
    Ok(action)
}

/// What a worker said, for the listeners; final numbers are kept for the action.
fn event_of(stage: &str, reply: Reply, metrics: &Mutex<Metrics>) -> Option<Event> {
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
fn job(
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
        threads: devices::THREADS,
        checkpoints: Some(Checkpoints {
            folder: shared.session.cache.checkpoints(&resolved.work),
            every_steps: checkpoint.every_steps,
            every_seconds: checkpoint.every_seconds,
            keep_last: shared.keeps_last(stage),
            anew,
        }),
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
            crate::plan::From::File(path) => user_source(&shared.session.cache, path)?,
            crate::plan::From::Stage(..) => stored_source(shared, artifact)?,
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
        entries.into_iter().map(|(name, blob)| (name, cache.file(&blob.digest))).collect(),
    ))
}

fn user_source(cache: &Cache, path: &Path) -> Result<Source, RunError> {
    if path.is_file() {
        return Ok(Source::File(path.to_owned()));
    }
    Ok(Source::Tree(cache.user_files(path)?))
}

/// What a program left, where it cannot reach it.
async fn copied(
    stage: &Stage,
    outputs: BTreeMap<String, PathBuf>,
    to: &Path,
) -> Result<BTreeMap<String, PathBuf>, RunError> {
    let (stage, to) = (stage.clone(), to.to_owned());
    blocking(move || seal(&stage, outputs, &to)).await
}

/// Runs file work away from the threads that drive events.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RunError::Setup(format!("a thread of gradus itself failed: {error}"))),
    }
}
