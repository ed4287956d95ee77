//! Outputs with nothing in them, as the catalogue tells from parameters: who reads one would fail when its turn comes.

use std::collections::HashMap;

use serde_json::Value;

use super::stage::{From, Stage};
use crate::spec::{Mistakes, Pipeline, Problem};

/// Adds a mistake for each wire that brings nothing. A program may know what to do with it.
pub(super) fn check(
    stages: &[Stage],
    said: &[Value],
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    let mut known: HashMap<(usize, &str), Option<&str>> = HashMap::new();
    for stage in stages.iter().filter(|stage| stage.exec.is_none()) {
        for wire in &stage.inputs {
            let From::Stage(index, output) = &wire.from else { continue };
            let why = *known
                .entry((*index, output))
                .or_insert_with(|| why(&stages[*index], &said[*index], output));
            if let Some(why) = why {
                let (port, from) = (&wire.port, &stages[*index].id);
                let words = format!("`{port}` reads `{from}.{output}`, which is empty: {why}");
                let problem = Problem::Empty { stage: stage.id.clone(), words };
                mistakes.add(&pipeline.sources, wire.at, problem);
            }
        }
    }
}

fn why<'a>(stage: &'a Stage, said: &Value, output: &str) -> Option<&'a str> {
    let port = stage.kind.outputs.iter().find(|port| port.name == output)?;
    let rule = port.empty.as_ref()?;
    (said.is_object() && rule.is_broken_by(said)).then_some(&rule.words)
}
