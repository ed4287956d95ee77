//! One stage of the file becomes one instance per point of its matrix.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use gradus_protocol::catalog::{Catalog, Kind};

use super::exec;
use crate::spec::{
    Data, Mistakes, Node, Pipeline, Problem, Scope, StageSpec, interpolate, nearest,
};

/// Points of one matrix.
const MOST_POINTS: usize = 10_000;

/// A stage of the file at one point of its matrix.
pub(super) struct Instance<'a> {
    pub(super) id: String,
    pub(super) spec: &'a StageSpec,
    pub(super) kind: Arc<Kind>,
    pub(super) point: Vec<(String, Node)>,
}

impl Instance<'_> {
    /// What `${…}` can reach in this instance.
    pub(super) fn scope<'s>(&'s self, pipeline: &'s Pipeline) -> Scope<'s> {
        Scope {
            params: Some(&pipeline.params),
            matrix: &self.point,
            env: environment(pipeline),
            stage: Some(&self.id),
            words: BTreeMap::new(),
        }
    }
}

fn environment(pipeline: &Pipeline) -> BTreeMap<String, Option<String>> {
    pipeline.env.iter().map(|name| (name.clone(), std::env::var(name).ok())).collect()
}

/// All instances of stages whose kind is known.
pub(super) fn instances<'a>(
    pipeline: &'a Pipeline,
    catalog: &Catalog,
    mistakes: &mut Mistakes,
) -> Vec<Instance<'a>> {
    let mut instances = Vec::new();
    for spec in &pipeline.stages {
        let Some(kind) = kind_of(spec, pipeline, catalog, mistakes) else { continue };
        let mut ids = HashSet::new();
        for point in points(spec, pipeline, mistakes) {
            let id = id(spec, &point);
            if !ids.insert(id.clone()) {
                mistakes.add(&pipeline.sources, spec.at, Problem::DuplicateVariant(id));
                continue;
            }
            instances.push(Instance { id, spec, kind: Arc::clone(&kind), point });
        }
    }
    instances
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

/// The matrix, multiplied out; one empty point without a matrix.
fn points(
    spec: &StageSpec,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Vec<(String, Node)>> {
    let scope =
        Scope { params: Some(&pipeline.params), env: environment(pipeline), ..Scope::default() };
    let mut points = vec![Vec::new()];
    for entry in &spec.matrix {
        let Some(values) = interpolate(&entry.value, &scope, &pipeline.sources, mistakes) else {
            return Vec::new();
        };
        let values = match values.data {
            Data::List(values) if !values.is_empty() => values,
            _ => {
                let problem = Problem::WrongType {
                    what: format!("the matrix's `{}`", entry.key),
                    expected: "a list with at least one value".to_owned(),
                    found: values.sort().to_owned(),
                };
                mistakes.add(&pipeline.sources, entry.value.at, problem);
                return Vec::new();
            }
        };
        if points.len().saturating_mul(values.len()) > MOST_POINTS {
            let problem = Problem::TooManyVariants { most: MOST_POINTS };
            mistakes.add(&pipeline.sources, entry.at, problem);
            return Vec::new();
        }
        points = points
            .iter()
            .flat_map(|point| {
                values.iter().map(move |value| {
                    let mut point: Vec<(String, Node)> = point.clone();
                    point.push((entry.key.clone(), value.clone()));
                    point
                })
            })
            .collect();
    }
    points
}
