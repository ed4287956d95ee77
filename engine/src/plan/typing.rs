//! Port types: what every output is here, and whether the port that takes it reads that.

use gradus_protocol::catalog::{Catalog, Kind, Port, PortType};

use super::stage::{From, Stage};
use crate::spec::{Mistakes, Pipeline, Problem};

/// What a user's own file is: whatever it is needed as; the stage looks when it reads it.
const ANY: &str = "any";
/// Ports of these types take every artifact.
const ALL: [&str; 3] = [ANY, "file", "folder"];

/// Works out output types in order and checks every wire. `stages` are sorted already.
pub(super) fn agree(
    mut stages: Vec<Stage>,
    catalog: &Catalog,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Stage> {
    for index in 0..stages.len() {
        let types = {
            let stage = &stages[index];
            stage.kind.outputs.iter().map(|port| output_type(port, stage, &stages)).collect()
        };
        stages[index].output_types = types;
        let stage = &stages[index];
        for wire in &stage.inputs {
            let Some(port) = stage.kind.inputs.iter().find(|port| port.name == wire.port) else {
                continue;
            };
            let found = carried(&wire.from, &stages);
            let PortType::Is(accepts) = &port.port_type else { continue };
            if fits(&found, accepts) {
                continue;
            }
            let makes = maker(catalog, &found, accepts)
                .map(|(maker, made)| format!("`{maker}` makes a `{made}` of `{found}`; "));
            let accepts: Vec<_> = accepts.iter().map(|name| format!("`{name}`")).collect();
            let from = match &wire.from {
                From::Stage(index, output) => format!("{}.{output}", stages[*index].id),
                From::File(path) => path.display().to_string(),
            };
            let problem = Problem::PortType {
                port: format!("{}.{}", stage.id, wire.port),
                accepts: accepts.join(" or "),
                from,
                found: format!("`{found}`"),
                help: format!(
                    "{}`gradus stages show {}` lists ports and types",
                    makes.unwrap_or_default(),
                    stage.kind.kind
                ),
            };
            mistakes.add(&pipeline.sources, wire.at, problem);
        }
    }
    stages
}

fn fits(found: &str, accepts: &[String]) -> bool {
    found == ANY || accepts.iter().any(|it| it == found || ALL.contains(&it.as_str()))
}

/// The first kind that makes something of a type in `wanted` out of a `found`, and what it makes.
fn maker(catalog: &Catalog, found: &str, wanted: &[String]) -> Option<(String, String)> {
    let takes = |kind: &Kind| {
        kind.inputs.iter().any(|port| {
            let PortType::Is(types) = &port.port_type else { return false };
            !port.optional && !port.many && types.iter().any(|name| name == found)
        })
    };
    let makes = |kind: &Kind| {
        let PortType::Is(types) = &kind.outputs.first()?.port_type else { return None };
        let made = types.first().filter(|made| wanted.contains(made))?;
        Some((kind.kind.clone(), made.clone()))
    };
    catalog.kinds.iter().filter(|kind| takes(kind)).find_map(makes)
}

fn carried(from: &From, stages: &[Stage]) -> String {
    let From::Stage(index, output) = from else { return ANY.to_owned() };
    let stage = &stages[*index];
    let position = stage.kind.outputs.iter().position(|port| port.name == *output);
    position.and_then(|p| stage.output_types.get(p)).map_or_else(|| ANY.to_owned(), Clone::clone)
}

fn output_type(port: &Port, stage: &Stage, stages: &[Stage]) -> String {
    match &port.port_type {
        PortType::Is(types) => types.first().map_or_else(|| ANY.to_owned(), Clone::clone),
        PortType::ByParameter { parameter, types } => {
            let value = stage.params.get(parameter).and_then(|value| value.as_str());
            let found = types.iter().find(|(word, _)| Some(word.as_str()) == value);
            found.map_or_else(|| ANY.to_owned(), |(_, name)| name.clone())
        }
        PortType::SameAs { input } => {
            let wire = stage.inputs.iter().find(|wire| wire.port == *input);
            wire.map_or_else(|| ANY.to_owned(), |wire| carried(&wire.from, stages))
        }
    }
}
