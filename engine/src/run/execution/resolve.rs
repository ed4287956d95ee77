//! What a stage's fingerprint is, once all that it reads is known, and what the cache has for it.

use std::{collections::HashMap, path::Path, sync::Arc};

use gradus_cache::{Action, Artifact, Cache, CacheError, Fingerprint, Stat};
use gradus_protocol::{Checkpoint, Reached};
use serde::Deserialize;
use serde_json::json;

use crate::{
    event::{Cause, Metrics, Why},
    plan::{Facts, From, Known, Origin, Origins, Plan, Stage, Table, label, names, seed_of},
    run::{process::program::on_path, session::Session},
};

/// Actions of stages, by their place in the plan. Shared, for a record may be large and has many readers.
pub(crate) type Actions = HashMap<usize, Arc<Action>>;

/// A stage with everything that determines its outputs.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) facts: Facts,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) seed: u64,
    /// What is leased while the stage runs, and names the states that it keeps: the fingerprint, or what
    /// all have in common that go on from each other.
    pub(crate) work: Fingerprint,
    pub(crate) known: Known,
    /// The user's files that were read, as they were then.
    pub(crate) stats: Vec<Stat>,
}

/// Resolves `stage`; `actions` are those of the stages before it. `None` if one it reads has none yet.
pub(crate) fn resolve(
    session: &Session,
    plan: &Plan,
    stage: &Stage,
    actions: &Actions,
) -> Result<Option<Resolved>, CacheError> {
    let waits = stage.sources().any(|source| !actions.contains_key(&source));
    if waits { Ok(None) } else { gather(session, plan, stage, actions) }
}

/// As [`resolve`], but inputs that are not there yet are left out. `None` if an action lacks an output.
pub(crate) fn gather(
    session: &Session,
    plan: &Plan,
    stage: &Stage,
    actions: &Actions,
) -> Result<Option<Resolved>, CacheError> {
    let mut known = Known { device: session.devices.class_of(stage), ..Known::default() };
    let mut origins = Origins::default();
    let mut stats = Vec::new();
    let mut hash = |path: &Path| -> Result<Artifact, CacheError> {
        let (artifact, read) = session.cache.hash_path(path, &stage.conduct.ignore)?;
        stats.extend(read);
        Ok(artifact)
    };
    for wire in &stage.inputs {
        let (artifact, origin) = match &wire.from {
            From::File(path) => (hash(path)?, Origin::File { file: session.path_in_words(path) }),
            From::Stage(index, output) => {
                let Some(action) = actions.get(index) else { continue };
                let Some(artifact) = action.outputs.get(output) else { return Ok(None) };
                let origin = Origin::Stage {
                    stage: plan.stages[*index].id.clone(),
                    output: output.clone(),
                    fingerprint: action.fingerprint,
                };
                (artifact.clone(), origin)
            }
        };
        let label = label(wire, stage, &plan.stages);
        known.inputs.entry(wire.port.clone()).or_default().push((label, artifact));
        origins.inputs.entry(wire.port.clone()).or_default().push(origin);
    }
    for (pointer, path) in &stage.files {
        known.files.insert(pointer.clone(), hash(path)?);
        origins.files.insert(pointer.clone(), session.path_in_words(path));
    }
    for path in session.plugin_of(&stage.kind).iter().flat_map(|plugin| &plugin.sources) {
        known.program.push(hash(path)?);
        origins.program.push(session.path_in_words(path));
    }
    for name in stage.exec.iter().flat_map(|exec| &exec.tools) {
        let found = on_path(name);
        if let Some(path) = &found {
            origins.tools.insert(name.clone(), path.display().to_string());
        }
        known.tools.insert(name.clone(), found.map(|path| hash(&path)).transpose()?);
    }
    let table = Table::of(stage, &known);
    let fingerprint = stage.conduct.frozen.unwrap_or_else(|| table.fingerprint());
    let line = stage.kind.length.as_ref().map(|length| table.line(length));
    let seed = seed_of(stage);
    let extends = session.settings.checkpoint.keep_last && stage.extends();
    let extends = extends && stage.conduct.frozen.is_none();
    let work = line.filter(|_| extends).unwrap_or(fingerprint);
    Ok(Some(Resolved { facts: Facts { table, origins }, fingerprint, seed, work, known, stats }))
}

/// The step that the stage would go on from, as far as one can tell without a worker.
fn goes_on_from(session: &Session, stage: &Stage, resolved: &Resolved) -> Option<u64> {
    let length = stage.kind.length.as_ref()?;
    let states = Checkpoint::all(&session.cache.checkpoints(&resolved.work));
    let states = states.into_iter().rev().filter_map(|(_, path)| Checkpoint::read(&path).ok());
    let mut usable = states.filter(|state| state.leads_to(&stage.params, length));
    usable.next().map(|state| state.step)
}

/// Why a stage runs that is forced, or else is not in the cache; `anew` if with nothing of what it did before.
pub(crate) fn why(
    session: &Session,
    plan: &Plan,
    stage: &Stage,
    resolved: &Resolved,
    anew: bool,
) -> Result<Why, CacheError> {
    let goes_on_from = if anew { None } else { goes_on_from(session, stage, resolved) };
    let by_row = !anew && !stage.kind.by_row.is_empty();
    let reached =
        by_row.then(|| Reached::read(&session.cache.checkpoints(&resolved.work))).flatten();
    let why = Why { goes_on_from, reached, ..Why::default() };
    let because = |cause, reasons| Ok(Why { cause, reasons, ..why.clone() });
    if stage.conduct.frozen.is_some() {
        return because(Cause::ResultGone, Vec::new());
    }
    if stage.conduct.always {
        return because(Cause::Always, Vec::new());
    }
    if session.forces(stage) && session.cache.recall(&resolved.fingerprint)?.is_some() {
        return because(Cause::Forced, Vec::new());
    }
    match last(&session.cache, plan, stage) {
        None => because(Cause::NeverRan, Vec::new()),
        Some(last) if last.table == resolved.facts.table => because(Cause::ResultGone, Vec::new()),
        Some(last) => {
            let common = |facts: &Facts| facts.table.without(&stage.kind.by_row);
            let keeps_rows = by_row
                && common(&last) == common(&resolved.facts)
                && session.cache.ledger().is_dir();
            let why = because(Cause::Changed, resolved.facts.changes_since(&last))?;
            Ok(Why { keeps_rows, ..why })
        }
    }
}

/// What the stage was when it last ran or was found in the cache.
pub(crate) fn last(cache: &Cache, plan: &Plan, stage: &Stage) -> Option<Facts> {
    let last = cache.index().last(&plan.key(), &stage.id)?;
    serde_json::from_value(last).ok()
}

/// Remembers what the stage was when it last ran or was found in the cache.
pub(crate) fn remember(cache: &Cache, plan: &Plan, stage: &Stage, resolved: &Resolved) {
    // A `Facts` is plain data: this cannot fail.
    let facts = || json!(resolved.facts);
    cache.index().set_last(&plan.key(), &stage.id, &resolved.fingerprint, facts);
}

/// The metrics that a stage's action remembers.
pub(crate) fn metrics_of(action: &Action) -> Metrics {
    #[derive(Default, Deserialize)]
    struct Measured {
        metrics: Metrics,
    }
    action.record.read::<Measured>().unwrap_or_default().metrics
}

impl Session {
    /// A file of the user's as people know it: from the project on, where it lies inside.
    fn path_in_words(&self, path: &Path) -> String {
        path.strip_prefix(&self.project).unwrap_or(path).display().to_string()
    }

    /// Whether this stage runs although it may be cached: it is forced, or says `cache: false`.
    pub(crate) fn runs_anyway(&self, stage: &Stage) -> bool {
        stage.conduct.frozen.is_none()
            && ((stage.conduct.always && !self.settings.looks_back) || self.forces(stage))
    }

    /// Whether this stage is to begin with nothing of what it did before. One that says `cache: false`
    /// goes on from where it was broken off, but not from its own end.
    pub(crate) fn begins_anew(
        &self,
        stage: &Stage,
        fingerprint: &Fingerprint,
    ) -> Result<bool, CacheError> {
        let done = || Ok(self.cache.action(fingerprint)?.is_some());
        Ok(self.forces(stage) || (stage.conduct.always && done()?))
    }

    /// Whether this stage is to run although it is cached.
    pub(crate) fn forces(&self, stage: &Stage) -> bool {
        let targets = &self.settings.targets;
        let named = targets.is_empty() || targets.iter().any(|target| names(target, &stage.id));
        self.settings.force && named
    }
}
