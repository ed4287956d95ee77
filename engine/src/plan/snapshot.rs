//! What `gradus test` compares, joined to the stages it is of.

use super::{axes::names, stage::Stage, when::LeftOut};
use crate::spec::{Mistakes, Pipeline, Problem, Reference, SnapshotSpec, What, nearest};

/// How far a number may be off where a pipeline does not say.
const TOLERANCE: f64 = 1e-6;

/// One thing to compare.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub what: What,
    /// Index into [`Plan::stages`](super::Plan::stages).
    pub stage: usize,
    /// `None` for metrics.
    pub output: Option<String>,
    pub only: Vec<String>,
    /// A number agrees that is off by at most this, or by this part of what is expected.
    pub tolerance: f64,
}

/// What the pipeline declares; without a word of it, the metrics of every stage.
pub(super) fn resolve(
    stages: &[Stage],
    left_out: &[LeftOut],
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Snapshot> {
    let Some(specs) = &pipeline.snapshots else {
        let metrics = |stage| Snapshot {
            what: What::Metrics,
            stage,
            output: None,
            only: Vec::new(),
            tolerance: TOLERANCE,
        };
        return (0..stages.len()).map(metrics).collect();
    };
    let mut snapshots = Vec::new();
    for spec in specs {
        match one(spec, stages, left_out, pipeline) {
            Ok(found) => snapshots.extend(found),
            Err(problem) => mistakes.add(&pipeline.sources, spec.at, *problem),
        }
    }
    snapshots
}

fn one(
    spec: &SnapshotSpec,
    stages: &[Stage],
    left_out: &[LeftOut],
    pipeline: &Pipeline,
) -> Result<Vec<Snapshot>, Box<Problem>> {
    let reference = Reference::parse(&spec.of);
    let name = reference.as_ref().map_or(spec.of.as_str(), |it| it.stage);
    let of_spec = || stages.iter().enumerate().filter(|(_, stage)| stage.spec == name);
    let known = || pipeline.names.iter().map(String::as_str);
    let Some(reference) = reference.filter(|_| known().any(|it| it == name)) else {
        return Err(Box::new(Problem::UnknownTarget {
            name: name.to_owned(),
            nearest: nearest(name, known()),
            known: known().collect::<Vec<_>>().join(", "),
        }));
    };
    let wanted = reference.variant.map_or(name.to_owned(), |variant| format!("{name}[{variant}]"));
    let is_meant = |stage: &Stage| names(&wanted, &stage.id);
    let meant: Vec<_> = of_spec().filter(|(_, stage)| is_meant(stage)).collect();
    // What is left out this time is compared another time.
    let is_left_out = left_out.iter().any(|it| it.id == wanted);
    if meant.is_empty() && of_spec().next().is_some() && !is_left_out {
        let known: Vec<_> = of_spec().map(|(_, it)| format!("`{}`", it.id)).collect();
        return Err(Box::new(Problem::UnknownVariant {
            stage: name.to_owned(),
            wanted: reference.variant.unwrap_or_default().to_owned(),
            known: known.join(", "),
        }));
    }
    let mut snapshots = Vec::new();
    for (index, stage) in meant {
        let output = output(spec, &reference, stage)?;
        snapshots.push(Snapshot {
            what: spec.what,
            stage: index,
            output,
            only: spec.only.clone(),
            tolerance: spec.tolerance.unwrap_or(TOLERANCE),
        });
    }
    Ok(snapshots)
}

fn output(
    spec: &SnapshotSpec,
    reference: &Reference<'_>,
    stage: &Stage,
) -> Result<Option<String>, Box<Problem>> {
    let ports = || stage.kind.outputs.iter().map(|port| port.name.as_str());
    let found = match (spec.what, reference.output) {
        (What::Metrics, None) => return Ok(None),
        // Metrics belong to the stage: no output has them.
        (What::Metrics, Some(_)) => None,
        (_, Some(output)) => ports().find(|port| *port == output),
        (_, None) => ports().next(),
    };
    if let Some(found) = found {
        return Ok(Some(found.to_owned()));
    }
    let stage_name = stage.spec.clone();
    let problem = match reference.output {
        Some(wanted) if spec.what == What::Metrics => {
            Problem::SnapshotOfMetrics { stage: stage_name, wanted: wanted.to_owned() }
        }
        Some(wanted) if !stage.kind.outputs.is_empty() => Problem::UnknownOutput {
            stage: stage_name,
            wanted: wanted.to_owned(),
            nearest: nearest(wanted, ports()),
            known: ports().collect::<Vec<_>>().join(", "),
        },
        _ => Problem::NoOutputs(stage_name),
    };
    Err(Box::new(problem))
}
