//! Numbers of a stage over its steps.
//!
//! A stage's `metrics` output has them all, also when it went on from a checkpoint. What is not in there was
//! told by events, which the run that made the result has kept.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use gradus_cache::{Cache, CacheError, Form};
use serde_json::Value;

use crate::{
    event::Event,
    run::{
        history::{RunRecord, StageRecord, Status},
        made::Made,
    },
};

/// Points of one metric, in the order of their steps; `None` where the value was not finite.
pub type Points = Vec<(u64, Option<f64>)>;

/// Every metric over steps that is known of a stage; `metrics` names its outputs of that type.
pub fn curves(
    cache: &Cache,
    run: &RunRecord,
    stage: &StageRecord,
    metrics: &[&str],
) -> Result<BTreeMap<String, Points>, CacheError> {
    let (run, name) = maker(cache, run, stage)?;
    let mut curves = told(&cache.root().join("runs").join(run).join("events.jsonl"), &name);
    for (_, artifact) in stage.outputs.iter().filter(|(port, _)| metrics.contains(&port.as_str())) {
        if artifact.form == Form::Blob {
            curves.extend(written(&cache.file(&artifact.digest)));
        }
    }
    for points in curves.values_mut() {
        points.sort_by_key(|point| point.0);
    }
    Ok(curves)
}

/// The run in which the stage really ran, and what it was called there.
fn maker(
    cache: &Cache,
    run: &RunRecord,
    stage: &StageRecord,
) -> Result<(String, String), CacheError> {
    if stage.status == Status::Cached
        && let Some(fingerprint) = &stage.fingerprint
        && let Some(made) = cache.action(fingerprint)?.as_ref().and_then(Made::of)
    {
        return Ok((made.run, made.stage));
    }
    Ok((run.run.clone(), stage.stage.clone()))
}

/// From a run's events. A run's folder may be gone: then nothing was told.
fn told(path: &Path, of: &str) -> BTreeMap<String, Points> {
    let mut curves: BTreeMap<String, Points> = BTreeMap::new();
    // Most lines of a long run are metrics of other stages, so whole values are read of few.
    for line in lines(path).filter(|line| line.starts_with(r#"{"event":"metric""#)) {
        if let Ok(Event::Metric { stage, name, step: Some(step), value }) =
            serde_json::from_str(&line)
            && stage == of
        {
            curves.entry(name).or_default().push((step, value));
        }
    }
    curves
}

/// From JSON lines that have a `step`.
fn written(path: &Path) -> BTreeMap<String, Points> {
    let mut curves: BTreeMap<String, Points> = BTreeMap::new();
    for line in lines(path) {
        let Ok(Value::Object(row)) = serde_json::from_str(&line) else { continue };
        let Some(step) = row.get("step").and_then(Value::as_u64) else { continue };
        for (name, value) in row.iter().filter(|(name, _)| *name != "step") {
            if value.is_number() || value.is_null() {
                curves.entry(name.clone()).or_default().push((step, value.as_f64()));
            }
        }
    }
    curves
}

fn lines(path: &Path) -> impl Iterator<Item = String> {
    let file = File::open(path).map(BufReader::new).ok();
    file.into_iter().flat_map(|file| file.lines().map_while(Result::ok))
}
