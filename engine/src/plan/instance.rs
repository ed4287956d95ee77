//! A stage of the file at one point of its matrix.

use std::sync::Arc;

use gradus_protocol::catalog::Kind;

use super::{arms::Arms, axes::Axis};
use crate::spec::{Node, Pipeline, Scope, StageSpec};

/// A stage of the file at one point of its matrix.
pub(super) struct Instance<'a> {
    pub(super) id: String,
    pub(super) spec: &'a StageSpec,
    pub(super) kind: Arc<Kind>,
    /// The points of the includes that it came by.
    pub(super) arms: Arms,
    pub(super) point: Vec<(String, Node)>,
    /// All of these, in words.
    pub(super) axes: Vec<Axis>,
    pub(super) seed: u64,
    /// What it is called in its own file.
    pub(super) name: String,
}

impl Instance<'_> {
    /// What `${…}` can reach in this instance.
    pub(super) fn scope<'s>(&'s self, pipeline: &'s Pipeline) -> Scope<'s> {
        Scope {
            matrix: &self.point,
            arms: &self.arms,
            // By which includes it came is nothing that its outputs may show.
            stage: Some(&self.name),
            seed: Some(self.seed),
            ..scope_of(self.spec, pipeline)
        }
    }
}

/// What `${…}` can reach where no instance is known yet.
pub(super) fn scope_of<'s>(spec: &'s StageSpec, pipeline: &'s Pipeline) -> Scope<'s> {
    let budget = Some(&pipeline.budget);
    Scope { modules: &pipeline.modules, args: &spec.args, budget, ..Scope::default() }
}
