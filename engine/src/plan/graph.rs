//! The order in which stages can run, and the picture of it. The one file that names petgraph.

use std::collections::BTreeSet;

use petgraph::{
    algo::{tarjan_scc, toposort},
    graph::{DiGraph, NodeIndex},
};

use super::{
    checked::Plan,
    stage::{From, Stage, Wire, readers},
    when::LeftOut,
};
use crate::spec::{Mistakes, Pipeline, Problem};

/// `stages` so that each stands behind all that it reads from.
pub(super) fn order(
    stages: Vec<Stage>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Stage> {
    let mut graph = DiGraph::<(), ()>::new();
    for _ in &stages {
        graph.add_node(());
    }
    for (index, stage) in stages.iter().enumerate() {
        for source in stage.sources() {
            graph.update_edge(NodeIndex::new(source), NodeIndex::new(index), ());
        }
    }
    if toposort(&graph, None).is_err() {
        for circle in tarjan_scc(&graph) {
            let lone = circle.len() == 1 && graph.find_edge(circle[0], circle[0]).is_none();
            if !lone {
                say_cycle(&circle, &graph, &stages, pipeline, mistakes);
            }
        }
        return Vec::new();
    }
    by_depth(stages)
}

/// Topological, and otherwise as in the file: a stage moves back only as far as it must.
fn by_depth(stages: Vec<Stage>) -> Vec<Stage> {
    let mut position = vec![usize::MAX; stages.len()];
    let mut waits_for: Vec<usize> = stages.iter().map(|stage| stage.sources().count()).collect();
    let readers = readers(&stages);
    let mut ready: BTreeSet<usize> = (0..stages.len()).filter(|i| waits_for[*i] == 0).collect();
    let mut order = Vec::new();
    while let Some(next) = ready.pop_first() {
        position[next] = order.len();
        order.push(next);
        for reader in &readers[next] {
            waits_for[*reader] -= 1;
            if waits_for[*reader] == 0 {
                ready.insert(*reader);
            }
        }
    }
    let mut slots: Vec<_> = stages.into_iter().map(Some).collect();
    let moved = order.iter().filter_map(|index| slots[*index].take());
    moved
        .map(|mut stage| {
            for wire in &mut stage.inputs {
                if let From::Stage(index, _) = &mut wire.from {
                    *index = position[*index];
                }
            }
            stage
        })
        .collect()
}

fn say_cycle(
    circle: &[NodeIndex],
    graph: &DiGraph<(), ()>,
    stages: &[Stage],
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    // Walk along edges inside the component until a stage comes again.
    let first = circle.iter().min().copied().unwrap_or_default();
    let mut path = vec![first];
    loop {
        let here = path[path.len() - 1];
        let next = graph.neighbors(here).filter(|it| circle.contains(it)).min();
        let Some(next) = next else { break };
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            path.drain(..start);
            path.push(next);
            break;
        }
        path.push(next);
    }
    let words: Vec<_> = path.iter().map(|node| stages[node.index()].id.as_str()).collect();
    let (last, first) = (path[path.len().saturating_sub(2)], path[0]);
    let closing = stages[first.index()]
        .inputs
        .iter()
        .find(|wire| matches!(wire.from, From::Stage(index, _) if index == last.index()));
    let at = closing.map_or(stages[first.index()].at, |wire| wire.at);
    mistakes.add(&pipeline.sources, at, Problem::Cycle(words.join(" → ")));
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    Text,
    Mermaid,
    Dot,
}

/// The plan as a picture in text.
pub fn draw(plan: &Plan, drawing: Drawing) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let edges = || {
        plan.stages.iter().enumerate().flat_map(|(to, stage)| {
            let from = |wire: &Wire| match &wire.from {
                From::Stage(from, output) => Some((*from, output.clone())),
                From::File(_) => None,
            };
            stage.inputs.iter().filter_map(move |w| from(w).map(|(from, out)| (from, to, out)))
        })
    };
    match drawing {
        Drawing::Text => {
            for stage in &plan.stages {
                let inputs: Vec<_> = stage
                    .inputs
                    .iter()
                    .map(|wire| match &wire.from {
                        From::Stage(index, output) => {
                            let source = &plan.stages[*index];
                            let main = source.kind.outputs.first();
                            let is_main = main.is_some_and(|port| port.name == *output);
                            let dot = if is_main { String::new() } else { format!(".{output}") };
                            format!("{}: {}{dot}", wire.port, source.id)
                        }
                        From::File(path) => format!("{}: {}", wire.port, path.display()),
                    })
                    .collect();
                let arrow = if inputs.is_empty() { "" } else { "  ← " };
                line(format!("{}  ({}){arrow}{}", stage.id, stage.kind.kind, inputs.join(", ")));
            }
            for LeftOut { id, kind, because, .. } in &plan.left_out {
                line(format!("{id}  ({})  left out: {because}", kind.kind));
            }
        }
        Drawing::Mermaid => {
            line("graph TD".to_owned());
            for (index, stage) in plan.stages.iter().enumerate() {
                let id = stage.id.replace('"', "#quot;");
                line(format!("  s{index}[\"{id}<br/><small>{}</small>\"]", stage.kind.kind));
            }
            for (from, to, output) in edges() {
                line(format!("  s{from} -->|{output}| s{to}"));
            }
        }
        Drawing::Dot => {
            line(format!("digraph {:?} {{", plan.name));
            line("  node [shape=box, fontname=\"sans-serif\"];".to_owned());
            for (index, stage) in plan.stages.iter().enumerate() {
                let label = format!("{}\n{}", stage.id, stage.kind.kind);
                line(format!("  s{index} [label={label:?}];"));
            }
            for (from, to, output) in edges() {
                line(format!("  s{from} -> s{to} [label=\"{output}\"];"));
            }
            line("}".to_owned());
        }
    }
    text
}
