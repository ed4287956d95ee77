//! One stage of a run, from its fingerprint to its action.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use gradus_cache::{Action, Cache, MAKE_SPACE};
use gradus_protocol::{Page, Reached};
use tokio::sync::watch;

use super::{
    blocking::blocking,
    clock::Clock,
    job::{event_of, job, taking},
    recall::cached,
    resolve::{self, Actions, Resolved},
    retry,
    seal::seal,
    shared::Shared,
    slots::CPU,
    turn::{Turn, turn},
};
use crate::{
    error::RunError,
    event::{Event, Metrics},
    plan::{Exec, Stage},
    run::{
        made::Made,
        process::{
            log::Log,
            program::{self, Around},
            secret::Secrets,
            stop::Stop,
        },
    },
};

/// A stage's outcome as the scheduler needs it.
pub(crate) struct Ended {
    pub(crate) action: Action,
    pub(crate) cached: bool,
}

/// Brings one stage to its action: from the cache, or by running it.
pub(crate) async fn execute(
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
    // Of large files nobody has looked at the bytes yet.
    if let Some(vanished) = vanished(&shared, index, &resolved).await? {
        shared.not_yet(resolved.fingerprint);
        return Err(vanished);
    }
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

/// Names the stages whose outputs this one reads and that are gone or damaged, if any. Each is hashed once a process.
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
                && !shared.session.cache.verify_fully(artifact)?
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
    let why = resolve::why(&shared.session, &shared.plan, stage, resolved, anew)?;
    let (stage_id, fingerprint) = (stage.id.clone(), resolved.fingerprint);
    shared.send(Event::Started { stage: stage_id, fingerprint, device: device.to_owned(), why });
    let began = Instant::now();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (attempt, sealed) = (cache.attempt()?, cache.attempt()?);
    let log_path = shared.log_path(&stage.id);
    let metrics = Arc::new(Mutex::new(Metrics::new()));
    let mut ran_on = device.to_owned();
    let staged = if let Some(exec) = &stage.exec {
        let within = Within {
            attempt: attempt.path(),
            sealed: sealed.path(),
            log: &log_path,
            secrets: &secrets,
            device,
            anew,
        };
        let (staged, measured) = run_program(shared, exec, stage, resolved, &within, stop).await?;
        metrics.lock().unwrap_or_else(PoisonError::into_inner).extend(measured);
        staged
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
        advice: stage.kind.advice_on(&stage.params, &metrics),
        stage: stage.id.clone(),
        fingerprint: action.fingerprint,
        outputs: action.outputs.clone(),
        metrics,
        seconds,
    });
    Ok(action)
}

/// Where a program works, and where what it says and leaves goes.
struct Within<'a> {
    attempt: &'a Path,
    sealed: &'a Path,
    log: &'a Path,
    secrets: &'a Secrets,
    device: &'a str,
    anew: bool,
}

async fn run_program(
    shared: &Arc<Shared>,
    exec: &Exec,
    stage: &Stage,
    resolved: &Resolved,
    within: &Within<'_>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(BTreeMap<String, PathBuf>, Metrics), RunError> {
    let cache = &shared.session.cache;
    let Within { attempt: folder, secrets, device, anew, .. } = *within;
    let log = Log::default();
    log.begin(within.log).map_err(RunError::io("the stage's log cannot be written"))?;
    let common = resolved.facts.table.without(&stage.kind.by_row);
    let page = Page::new(Some(&cache.ledger()), anew, &format!("program {common}"));
    let states = cache.checkpoints(&resolved.work);
    let reached = |reached: Reached| {
        if reached.done > 0
            && let Err(error) = reached.write(&states)
        {
            tracing::warn!(%error, "a plan will not say how far this is");
        }
        let (stage, note) = (stage.id.clone(), String::new());
        let Reached { done, of: total, unit } = reached;
        shared.send(Event::Progress { stage, done, total, unit, note });
    };
    let around = Around { cache, folder, log: &log, secrets, device, page, reached: &reached };
    let ran = program::run(exec, stage, &resolved.known.inputs, &around, stop).await;
    shared.keep_log(&stage.id, &log, ran.is_err());
    let left = ran.map_err(|error| with_room(cache, error))?;
    for (name, value) in &left.metrics {
        let (stage, name, value) = (stage.id.clone(), name.clone(), *value);
        shared.send(Event::Metric { stage, name, step: None, value });
    }
    let staged = copied(stage, left.outputs, within.sealed).await;
    let mut staged = staged.map_err(|error| with_room(cache, error))?;
    take_in(shared, stage, &mut staged, within, stop).await?;
    Ok((staged, left.metrics))
}

/// Has the worker look at what says that it is of a type that the worker knows.
async fn take_in(
    shared: &Arc<Shared>,
    stage: &Stage,
    staged: &mut BTreeMap<String, PathBuf>,
    within: &Within<'_>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(), RunError> {
    let known = &shared.session.catalog.takes;
    let types = stage.kind.outputs.iter().zip(&stage.output_types);
    for (port, port_type) in types.filter(|(_, it)| known.contains(it)) {
        let Some(path) = staged.get(&port.name) else { continue };
        let post = (None, CPU.to_owned());
        let mut worker = shared.worker(&post, stage, within.log).await?;
        let to = within.sealed.join(format!("{} taken in", port.name));
        let job = taking(&shared.session, port_type, path, &to)?;
        let ran = worker.run(job, stop, |_| {}).await;
        shared.keep_log(&stage.id, &worker.log, ran.is_err());
        if ran.is_ok() || worker.is_alive() {
            shared.put_back(post, worker);
        }
        ran.map_err(|error| match error {
            RunError::Stage(words) => {
                RunError::Stage(format!("the output `{}` is no `{port_type}`: {words}", port.name))
            }
            error => error,
        })?;
        if to.exists() {
            staged.insert(port.name.clone(), to);
        }
    }
    Ok(())
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
