//! One stage of the file becomes one instance per point of its matrix.

use std::{collections::HashSet, sync::Arc};

use gradus_protocol::catalog::{Catalog, Kind};

use super::{
    exec,
    matrix::{Point, points},
    seed,
    when::{self, LeftOut},
};
use crate::spec::{Data, Mistakes, Node, Pipeline, Problem, Scope, StageSpec, nearest};

/// Instances of one pipeline.
const MOST_INSTANCES: usize = 100_000;

/// A stage of the file at one point of its matrix.
pub(super) struct Instance<'a> {
    pub(super) id: String,
    pub(super) spec: &'a StageSpec,
    pub(super) kind: Arc<Kind>,
    pub(super) point: Vec<(String, Node)>,
    pub(super) seed: u64,
}

impl Instance<'_> {
    /// What `${…}` can reach in this instance.
    pub(super) fn scope<'s>(&'s self, pipeline: &'s Pipeline) -> Scope<'s> {
        // Its name in its own file: by which includes it came is nothing that its outputs may show.
        let name = self.id.strip_prefix(&self.spec.prefix).unwrap_or(&self.id);
        Scope {
            matrix: &self.point,
            stage: Some(name),
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

/// All instances of stages whose kind is known, and those that their `when` leaves out.
pub(super) fn instances<'a>(
    pipeline: &'a Pipeline,
    catalog: &Catalog,
    mistakes: &mut Mistakes,
) -> (Vec<Instance<'a>>, Vec<LeftOut>) {
    let (mut instances, mut left_out) = (Vec::new(), Vec::new());
    for spec in &pipeline.stages {
        let Some(kind) = kind_of(spec, pipeline, catalog, mistakes) else { continue };
        let mut ids = HashSet::new();
        for Point { values, at } in points(spec, pipeline, mistakes) {
            let id = id(spec, &values);
            if !ids.insert(id.clone()) {
                mistakes.add(&pipeline.sources, at, Problem::DuplicateVariant(id));
                continue;
            }
            if instances.len() + left_out.len() == MOST_INSTANCES {
                let problem = Problem::Limit { what: "stages", limit: MOST_INSTANCES };
                mistakes.add(&pipeline.sources, spec.at, problem);
                return (instances, left_out);
            }
            let mut instance =
                Instance { id, spec, kind: Arc::clone(&kind), point: values, seed: 0 };
            instance.seed = seed::of(&instance, pipeline, mistakes);
            match when::left_out(&instance, pipeline, mistakes) {
                None => instances.push(instance),
                Some(because) => {
                    let Instance { id, kind, .. } = instance;
                    left_out.push(LeftOut { id, spec: spec.name.clone(), kind, because });
                }
            }
        }
    }
    (instances, left_out)
}

fn kind_of(
    spec: &StageSpec,
    pipeline: &Pipeline,
    catalog: &Catalog,
    mistakes: &mut Mistakes,
) -> Option<Arc<Kind>> {
    if spec.kind == exec::KIND {
        return Some(Arc::new(exec::kind(spec)));
    }
    if let Some(output) = spec.outputs.first() {
        let words = format!("only `exec` declares outputs, and this stage is a `{}`", spec.kind);
        mistakes.add(&pipeline.sources, output.at, Problem::Exec(words));
    }
    if let Some(env) = &spec.env {
        let words = format!(
            "only `exec` has an environment of its own, and this stage is a `{}`: its parameters \
             stand in `with`",
            spec.kind
        );
        mistakes.add(&pipeline.sources, env.at, Problem::Exec(words));
    }
    let found = catalog.kind(&spec.kind).cloned().map(Arc::new);
    if found.is_none() {
        let known = catalog.kinds.iter().map(|kind| kind.kind.as_str()).chain([exec::KIND]);
        let nearest = nearest(&spec.kind, known);
        let problem = Problem::UnknownKind { kind: spec.kind.clone(), nearest };
        mistakes.add(&pipeline.sources, spec.kind_at, problem);
    }
    found
}

fn id(spec: &StageSpec, point: &[(String, Node)]) -> String {
    if point.is_empty() {
        return spec.name.clone();
    }
    // Names are shown on terminals, one a line: what could steer one is written out.
    let word = |node: &Node| match &node.data {
        Data::Text(text) => text
            .chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect(),
        _ => node.to_value().to_string(),
    };
    let words: Vec<_> = point.iter().map(|(name, node)| format!("{name}={}", word(node))).collect();
    format!("{}[{}]", spec.name, words.join(","))
}
