//! One stage of the file becomes one instance per point of its matrix.

use std::{collections::HashSet, sync::Arc};

use gradus_protocol::catalog::{Catalog, Kind, PortType};

use super::{
    arms::{self, Arms},
    axes::{self, Axis},
    exec,
    instance::{Instance, scope_of},
    matrix::{Matrix, Point},
    seed,
    when::{self, LeftOut},
};
use crate::spec::{Mistakes, Node, Pipeline, Problem, Scope, StageSpec, nearest};

/// Instances of one pipeline.
const MOST_INSTANCES: usize = 100_000;

/// All instances of stages whose kind is known, and those that their `when` leaves out.
pub(super) fn instances<'a>(
    pipeline: &'a Pipeline,
    catalog: &Catalog,
    mistakes: &mut Mistakes,
) -> (Vec<Instance<'a>>, Vec<LeftOut>) {
    let (mut instances, mut left_out) = (Vec::new(), Vec::new());
    let all = arms::arms(pipeline, mistakes);
    for spec in &pipeline.stages {
        let Some(kind) = kind_of(spec, pipeline, catalog, mistakes) else { continue };
        let mut ids = HashSet::new();
        let module = pipeline.modules.iter().position(|module| module.prefix == spec.prefix);
        for arms in module.and_then(|module| all.get(module)).into_iter().flatten() {
            for Point { values, at } in points(spec, arms, pipeline, mistakes) {
                let instance = instance(spec, Arc::clone(&kind), arms, values, pipeline);
                if !ids.insert(instance.id.clone()) {
                    let problem = Problem::DuplicateVariant(instance.id);
                    mistakes.add(&pipeline.sources, at, problem);
                    continue;
                }
                if instances.len() + left_out.len() == MOST_INSTANCES {
                    let problem = Problem::Limit { what: "stages", limit: MOST_INSTANCES };
                    mistakes.add(&pipeline.sources, spec.at, problem);
                    return (instances, left_out);
                }
                let seed = seed::of(&instance, pipeline, mistakes);
                let instance = Instance { seed, ..instance };
                match when::left_out(&instance, pipeline, mistakes) {
                    None => instances.push(instance),
                    Some(because) => {
                        let Instance { id, kind, .. } = instance;
                        left_out.push(LeftOut { id, spec: spec.name.clone(), kind, because });
                    }
                }
            }
        }
    }
    (instances, left_out)
}

/// The points of a stage's own matrix.
fn points(
    spec: &StageSpec,
    arms: &Arms,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Point> {
    let scope = Scope { arms, ..scope_of(spec, pipeline) };
    let matrix = Matrix { of: &spec.name, axes: &spec.matrix, at: spec.at };
    let points = matrix.points(&scope, pipeline, mistakes);
    let taken = points.first().and_then(|point| arms::taken(&point.values, arms));
    let Some(axis) = taken else { return points };
    mistakes.add(&pipeline.sources, spec.at, Problem::Matrix(arms::taken_in_words(axis)));
    Vec::new()
}

fn instance<'a>(
    spec: &'a StageSpec,
    kind: Arc<Kind>,
    arms: &Arms,
    point: Vec<(String, Node)>,
    pipeline: &Pipeline,
) -> Instance<'a> {
    let above = arms.iter().flat_map(|arm| {
        let include = pipeline.modules[arm.module].prefix.as_str();
        arm.values.iter().map(move |value| Axis::new(Some(include), value))
    });
    let own = point.iter().map(|value| Axis::new(None, value));
    let axes: Vec<Axis> = above.chain(own).collect();
    let id = axes::called(&spec.name, axes.iter());
    let own = spec.name.strip_prefix(&spec.prefix).unwrap_or(&spec.name);
    let name = axes::called(own, axes.iter().filter(|axis| axis.include.is_none()));
    Instance { id, spec, kind, arms: Arc::clone(arms), point, axes, seed: 0, name }
}

fn kind_of(
    spec: &StageSpec,
    pipeline: &Pipeline,
    catalog: &Catalog,
    mistakes: &mut Mistakes,
) -> Option<Arc<Kind>> {
    if spec.kind == exec::KIND {
        check_types(spec, pipeline, catalog, mistakes);
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
    let keys = [("tools", &spec.tools), ("metrics", &spec.metrics), ("rows", &spec.rows)];
    for (key, node) in keys.into_iter().filter_map(|(key, node)| Some((key, node.as_ref()?))) {
        let words = format!("`{key}` is for `exec` alone, and this stage is a `{}`", spec.kind);
        mistakes.add(&pipeline.sources, node.at, Problem::Exec(words));
    }
    let found = catalog.kind(&spec.kind).cloned().map(Arc::new);
    if found.is_none() {
        let known = catalog.kinds.iter().map(|kind| kind.kind.as_str()).chain([exec::KIND]);
        let nearest = nearest_kind(&spec.kind, &known.collect::<Vec<_>>());
        let problem = Problem::UnknownKind { kind: spec.kind.clone(), nearest };
        mistakes.add(&pipeline.sources, spec.kind_at, problem);
    }
    found
}

/// The kind that is meant, mostly: `dpo` is `policy.dpo`, and `stf` is `train.sft`.
fn nearest_kind(written: &str, known: &[&str]) -> Option<String> {
    let own = |kind: &str| kind.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<String> = known.iter().map(|kind| own(kind)).collect();
    let by_name = nearest(&own(written), names.iter().map(String::as_str));
    let by_name = by_name.and_then(|name| names.iter().position(|it| *it == name));
    let by_name = by_name.map(|at| known[at].to_owned());
    let whole = nearest(written, known.iter().copied());
    // Who writes no family means a kind's own name.
    if written.contains('.') { whole.or(by_name) } else { by_name.or(whole) }
}

/// Refuses types of outputs that no kind has a word for.
fn check_types(spec: &StageSpec, pipeline: &Pipeline, catalog: &Catalog, mistakes: &mut Mistakes) {
    let ports = catalog.kinds.iter().flat_map(|kind| kind.inputs.iter().chain(&kind.outputs));
    let mut known: Vec<&str> = vec!["file", "folder"];
    for port in ports {
        match &port.port_type {
            PortType::Is(types) => known.extend(types.iter().map(String::as_str)),
            PortType::ByParameter { types, .. } => {
                known.extend(types.iter().map(|(_, name)| name.as_str()));
            }
            PortType::SameAs { .. } => {}
        }
    }
    for output in spec.outputs.iter().filter(|it| !known.contains(&it.port_type.as_str())) {
        let near = nearest(&output.port_type, known.iter().copied());
        let near = near.map_or_else(
            || "`gradus stages show KIND` names those of a kind".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let words = format!("no kind knows an output of the type `{}`: {near}", output.port_type);
        mistakes.add(&pipeline.sources, output.at, Problem::Exec(words));
    }
}
