//! The same pipeline, checked: edges joined, types agreed, parameters complete.
//!
//! [`plan`] turns a [`Pipeline`] into a [`Plan`] or says everything that is wrong.
//! What stands in a [`Plan`] needs no second check.

mod arms;
mod axes;
#[cfg(test)]
mod composed;
mod conduct;
mod exec;
mod facts;
mod files;
mod fingerprint;
mod graph;
mod instances;
mod line;
mod matrix;
mod params;
mod resources;
mod rules;
mod schema;
mod secrets;
mod seed;
mod snapshot;
mod typing;
mod when;
mod wiring;

use std::{path::PathBuf, sync::Arc};

use gradus_protocol::catalog::{Catalog, Kind};
use serde_json::Value;

pub use axes::{Axis, names};
pub use conduct::Conduct;
pub(crate) use exec::variable;
pub use exec::{Command, Exec, documented as exec_kind};
pub use facts::{Facts, Group, Origin, Origins, Pair, Row, short, side_by_side};
pub use fingerprint::{Known, Table, seed_of};
pub use graph::{Drawing, draw};
pub(crate) use line::shorter;
pub use resources::Resources;
pub use schema::schema;
pub use snapshot::Snapshot;
pub use when::LeftOut;
pub(crate) use wiring::label;

use crate::spec::{At, Mistakes, Pipeline};

/// A checked pipeline. Stages stand in an order in which they can run.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    /// The pipeline's file, by its absolute path: what tells it from another of the same name.
    pub file: PathBuf,
    pub stages: Vec<Stage>,
    /// What `when` leaves out, in the order of the file.
    pub left_out: Vec<LeftOut>,
    /// The files that it includes.
    pub included: Vec<PathBuf>,
    /// What a test of the pipeline compares.
    pub snapshots: Vec<Snapshot>,
}

/// One stage to run: a matrix makes several of one entry.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Unique, e.g. `dpo[beta=0.1]`.
    pub id: String,
    /// The entry in the file, e.g. `dpo`.
    pub spec: String,
    /// What of its name comes from includes: `base/`.
    pub prefix: String,
    /// Where it stands on the axes of its includes and its own.
    pub axes: Vec<Axis>,
    pub kind: Arc<Kind>,
    /// Complete: defaults are filled in.
    pub params: Value,
    /// What every random choice of this stage derives from.
    pub seed: u64,
    /// Files that parameters name: where in `params` (a JSON pointer), and where on the disk.
    pub files: Vec<(String, PathBuf)>,
    pub inputs: Vec<Wire>,
    /// One per output of the kind: its type here.
    pub output_types: Vec<String>,
    pub exec: Option<Exec>,
    pub conduct: Conduct,
    pub(crate) at: At,
}

/// One artifact that goes into a port.
#[derive(Debug, Clone)]
pub struct Wire {
    pub port: String,
    pub from: From,
    /// The port takes several, so the name of the stage matters to the outputs.
    pub fan_in: bool,
    pub(crate) at: At,
}

/// Where an artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Index into [`Plan::stages`], and the output's name.
    Stage(usize, String),
    File(PathBuf),
}

impl Plan {
    /// What the cache remembers the pipeline by.
    pub(crate) fn key(&self) -> std::borrow::Cow<'_, str> {
        self.file.to_string_lossy()
    }

    /// Those that `targets` name (by stage or instance), and all that they need. All, for no targets.
    pub fn select(&self, targets: &[String]) -> Result<Vec<usize>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut wanted = vec![targets.is_empty(); self.stages.len()];
        for target in targets {
            let is_meant = |stage: &Stage| names(target, &stage.id);
            if self.stages.iter().any(is_meant) {
                // Those of its variants that are left out are not asked for.
            } else if let Some(left_out) = self.left_out.iter().find(|it| names(target, &it.id)) {
                mistakes.add_unplaced(crate::spec::Problem::TargetLeftOut {
                    name: target.clone(),
                    because: left_out.because.clone(),
                });
            } else {
                let all = self.stages.iter().flat_map(|it| [it.spec.as_str(), it.id.as_str()]);
                let mut known: Vec<_> = self.stages.iter().map(|it| it.spec.as_str()).collect();
                known.dedup();
                mistakes.add_unplaced(crate::spec::Problem::UnknownTarget {
                    name: target.clone(),
                    nearest: crate::spec::nearest(target, all),
                    known: known.join(", "),
                });
            }
            for (i, stage) in self.stages.iter().enumerate().filter(|(_, stage)| is_meant(stage)) {
                tracing::debug!(stage = stage.id, "wanted");
                wanted[i] = true;
            }
        }
        // Behind each stage come only stages that it needs no more, so one pass backwards is enough.
        for i in (0..self.stages.len()).rev() {
            if wanted[i] {
                for source in self.stages[i].sources() {
                    wanted[source] = true;
                }
            }
        }
        mistakes.or((0..self.stages.len()).filter(|i| wanted[*i]).collect())
    }
}

impl Plan {
    /// What the pipeline is for, as (stage, position of the output): outputs that no stage reads, and
    /// models that no other model is made from.
    pub fn final_outputs(&self) -> Vec<(usize, usize)> {
        let is_model = |port_type: &str| matches!(port_type, "model" | "reward_model");
        let makes_models = |stage: &Stage| stage.output_types.iter().any(|it| is_model(it));
        let mut used = std::collections::HashSet::new();
        for reader in &self.stages {
            for wire in &reader.inputs {
                let From::Stage(index, output) = &wire.from else { continue };
                let outputs = &self.stages[*index].kind.outputs;
                let Some(port) = outputs.iter().position(|port| port.name == *output) else {
                    continue;
                };
                let judged = is_model(&self.stages[*index].output_types[port]);
                if !judged || makes_models(reader) {
                    used.insert((*index, port));
                }
            }
        }
        let all = self.stages.iter().enumerate();
        let all =
            all.flat_map(|(i, stage)| (0..stage.kind.outputs.len()).map(move |port| (i, port)));
        all.filter(|output| !used.contains(output)).collect()
    }
}

/// For every stage those that read from it.
pub(crate) fn readers(stages: &[Stage]) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); stages.len()];
    for (index, stage) in stages.iter().enumerate() {
        for source in stage.sources() {
            readers[source].push(index);
        }
    }
    readers
}

impl Stage {
    /// What it is called in the file whose names begin with `prefix`, by a stage that stands at `axes`: without
    /// what both came by.
    pub(crate) fn called_below(&self, prefix: &str, axes: &[Axis]) -> String {
        let spec = self.spec.strip_prefix(prefix).unwrap_or(&self.spec);
        let shared = |axis: &&Axis| axis.is_above(prefix) && axes.contains(axis);
        axes::called(spec, self.axes.iter().filter(|axis| !shared(axis)))
    }

    /// Whether this stage goes on from the finished state of a shorter one.
    pub fn extends(&self) -> bool {
        self.kind.length.as_ref().is_some_and(|length| length.extends(&self.params))
    }

    /// The stages that this one reads from; one may come more than once.
    pub fn sources(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(|wire| match wire.from {
            From::Stage(index, _) => Some(index),
            From::File(_) => None,
        })
    }
}

/// Checks `pipeline` against `catalog`; `mistakes` are those that reading it brought.
pub fn plan(
    pipeline: &Pipeline,
    catalog: &Catalog,
    mut mistakes: Mistakes,
) -> Result<Plan, Mistakes> {
    let (instances, left_out) = instances::instances(pipeline, catalog, &mut mistakes);
    let mut stages: Vec<Stage> = instances
        .iter()
        .map(|instance| params::complete(instance, pipeline, &mut mistakes))
        .collect();
    wiring::join(&mut stages, &instances, &left_out, pipeline, &mut mistakes);
    let stages = graph::order(stages, pipeline, &mut mistakes);
    let stages = typing::agree(stages, catalog, pipeline, &mut mistakes);
    let snapshots = snapshot::resolve(&stages, &left_out, pipeline, &mut mistakes);
    let included = pipeline.modules.iter().filter_map(|module| module.file.clone()).collect();
    let file = pipeline.file.clone();
    mistakes.or(Plan { name: pipeline.name.clone(), file, stages, left_out, included, snapshots })
}
