//! Two runs beside each other: what went in, what was measured, what came out.

use gradus_cache::{Artifact, Cache, CacheError};
use serde::Serialize;

use crate::{
    plan::{Facts, Pair, side_by_side},
    run::{
        history::{RunRecord, StageRecord},
        made::Made,
    },
};

/// How two runs differ.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Those that are in both runs, in the order of the second.
    pub stages: Vec<StageComparison>,
    pub only_first: Vec<String>,
    pub only_second: Vec<String>,
}

/// A stage in both runs.
#[derive(Debug, Serialize)]
pub struct StageComparison {
    pub stage: String,
    pub kind: String,
    /// Rows of the fingerprint's table that differ. `None` if a run has no result of the stage, or the
    /// cache has lost what it was made from.
    pub rows: Option<Vec<Pair>>,
    pub metrics: Vec<MetricPair>,
    pub outputs: Vec<OutputPair>,
}

/// A number in two runs.
#[derive(Debug, Serialize)]
pub struct MetricPair {
    pub name: String,
    /// `None` if it is absent or not finite.
    pub first: Option<f64>,
    pub second: Option<f64>,
    /// The second less the first.
    pub difference: Option<f64>,
}

/// An output in two runs.
#[derive(Debug, Serialize)]
pub struct OutputPair {
    pub name: String,
    pub first: Option<Artifact>,
    pub second: Option<Artifact>,
    pub same: bool,
}

impl Comparison {
    pub fn of(cache: &Cache, first: &RunRecord, second: &RunRecord) -> Result<Self, CacheError> {
        let mut stages = Vec::new();
        for one in &second.stages {
            if let Some(other) = find(first, &one.stage) {
                stages.push(StageComparison::of(cache, other, one)?);
            }
        }
        let only = |run: &RunRecord, other: &RunRecord| {
            let stages = run.stages.iter().filter(|it| find(other, &it.stage).is_none());
            stages.map(|it| it.stage.clone()).collect()
        };
        Ok(Self { stages, only_first: only(first, second), only_second: only(second, first) })
    }
}

fn find<'r>(run: &'r RunRecord, stage: &str) -> Option<&'r StageRecord> {
    run.stages.iter().find(|it| it.stage == stage)
}

impl StageComparison {
    fn of(cache: &Cache, first: &StageRecord, second: &StageRecord) -> Result<Self, CacheError> {
        let rows = match (first.fingerprint, second.fingerprint) {
            (Some(a), Some(b)) if a == b => Some(Vec::new()),
            _ => match (facts(cache, first)?, facts(cache, second)?) {
                (Some(first), Some(second)) => {
                    let pairs = side_by_side(&first.rows(), &second.rows());
                    Some(pairs.into_iter().filter(Pair::differs).collect())
                }
                _ => None,
            },
        };
        let metrics = union(first.metrics.keys(), second.metrics.keys(), |name| {
            let value = |of: &StageRecord| of.metrics.get(name).copied().flatten();
            let (first, second) = (value(first), value(second));
            let difference = first.zip(second).map(|(first, second)| second - first);
            MetricPair { name: name.to_owned(), first, second, difference }
        });
        let outputs = union(first.outputs.keys(), second.outputs.keys(), |name| {
            let (first, second) = (first.outputs.get(name), second.outputs.get(name));
            let same = first == second;
            let (first, second) = (first.cloned(), second.cloned());
            OutputPair { name: name.to_owned(), first, second, same }
        });
        let (stage, kind) = (second.stage.clone(), second.kind.clone());
        Ok(Self { stage, kind, rows, metrics, outputs })
    }

    /// Whether both runs have the same of everything.
    pub fn is_same(&self) -> bool {
        self.rows.as_ref().is_some_and(Vec::is_empty)
            && self.outputs.iter().all(|output| output.same)
            && self.metrics.iter().all(|metric| metric.first == metric.second)
    }
}

fn facts(cache: &Cache, stage: &StageRecord) -> Result<Option<Facts>, CacheError> {
    let Some(fingerprint) = &stage.fingerprint else { return Ok(None) };
    let action = cache.action(fingerprint)?;
    Ok(action.as_ref().and_then(Made::of).map(|made| made.facts))
}

/// One of each name that is in either.
fn union<'n, T>(
    first: impl Iterator<Item = &'n String>,
    second: impl Iterator<Item = &'n String>,
    of: impl Fn(&str) -> T,
) -> Vec<T> {
    let mut names: Vec<&String> = first.chain(second).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| of(name)).collect()
}
