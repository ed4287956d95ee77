//! What a stage's fingerprint is, once all that it reads is known, and what the cache has for it.

use std::{collections::BTreeMap, path::Path};

use gradus_cache::{Action, Artifact, Cache, CacheError, Fingerprint, Stat};
use serde_json::json;

use crate::{
    event::Metrics,
    plan::{From, Known, Plan, Stage, Table, label},
};

/// A stage with everything that determines its outputs.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) table: Table,
    pub(super) fingerprint: Fingerprint,
    pub(super) known: Known,
    /// The user's files that were read, as they were then.
    pub(super) stats: Vec<Stat>,
}

/// Resolves `stage`; `actions` are those of the stages before it. `None` if one it reads has none yet.
pub(super) fn resolve(
    cache: &Cache,
    plan: &Plan,
    stage: &Stage,
    actions: &[Option<Action>],
    device: &str,
) -> Result<Option<Resolved>, CacheError> {
    let mut known = Known { device: device.to_owned(), ..Known::default() };
    let mut stats = Vec::new();
    let mut hash = |path: &Path| -> Result<Artifact, CacheError> {
        let (artifact, read) = cache.hash_path(path)?;
        stats.extend(read);
        Ok(artifact)
    };
    let mut inputs: BTreeMap<String, Vec<(String, Artifact)>> = BTreeMap::new();
    for wire in &stage.inputs {
        let artifact = match &wire.from {
            From::File(path) => hash(path)?,
            From::Stage(index, output) => {
                let found = actions[*index].as_ref().and_then(|action| action.outputs.get(output));
                let Some(artifact) = found else { return Ok(None) };
                artifact.clone()
            }
        };
        inputs.entry(wire.port.clone()).or_default().push((label(wire, &plan.stages), artifact));
    }
    for (pointer, path) in &stage.files {
        known.files.insert(pointer.clone(), hash(path)?);
    }
    known.inputs = inputs;
    let table = Table::of(stage, &known);
    Ok(Some(Resolved { fingerprint: table.fingerprint(), table, known, stats }))
}

/// What the cache has for `fingerprint`, every byte of it checked as far as `Cache::verify` does.
pub(super) fn recall(
    cache: &Cache,
    fingerprint: &Fingerprint,
) -> Result<Option<Action>, CacheError> {
    let Some(action) = cache.recall(fingerprint)? else { return Ok(None) };
    for artifact in action.outputs.values() {
        if !cache.verify(artifact)? {
            return Ok(None);
        }
    }
    Ok(Some(action))
}

/// Why a stage runs: what changed since it last did. Empty if it never ran, or ran just so.
pub(super) fn reasons(cache: &Cache, plan: &Plan, stage: &Stage, table: &Table) -> Vec<String> {
    let last = cache.index().last(&stage_key(plan, stage));
    last.map(|last| table.changes_since(&Table(last))).unwrap_or_default()
}

/// Remembers `table` as what the stage last ran with.
pub(super) fn remember(cache: &Cache, plan: &Plan, stage: &Stage, table: &Table) {
    cache.index().set_last(&stage_key(plan, stage), &table.0);
}

fn stage_key(plan: &Plan, stage: &Stage) -> String {
    json!([plan.name, stage.id]).to_string()
}

/// The metrics that a stage's action remembers.
pub(super) fn metrics_of(action: &Action) -> Metrics {
    serde_json::from_value(action.record["metrics"].clone()).unwrap_or_default()
}
