//! A stage of a plan.

use std::{path::PathBuf, sync::Arc};

use gradus_protocol::catalog::Kind;
use serde_json::Value;

use super::{
    axes::{self, Axis},
    conduct::Conduct,
    exec::Exec,
};
use crate::spec::At;

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
    /// Index into `Plan::stages`, and the output's name.
    Stage(usize, String),
    File(PathBuf),
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
