//! What is known of a stage before anything runs: its parameters, which inputs it is given, and what those hand on.
//!
//! A kind says in its outputs what its stages hand on, a model's context say, and in its rules what must not come
//! together. Parameters stand by their names here, inputs as `inputs.NAME`, what they hand on as `inputs.NAME.FACT`.

use std::collections::HashMap;

use serde_json::Value;

use super::stage::{From, Stage, readers};

/// What is known besides, by the stage: as it stands here.
pub type Besides = HashMap<usize, Vec<(String, Value)>>;

/// Of every stage, in their order. Of one whose parameters are faulty nothing is known.
pub(super) fn said(stages: &[Stage], besides: &Besides) -> Vec<Value> {
    let readers = readers(stages);
    let mut waits_for: Vec<usize> = stages.iter().map(|stage| stage.sources().count()).collect();
    let mut all: Vec<Value> = stages.iter().map(|stage| stage.params.clone()).collect();
    let mut ready: Vec<usize> = (0..stages.len()).filter(|i| waits_for[*i] == 0).collect();
    // Stages that read each other in a circle are never ready, and are handed nothing.
    while let Some(index) = ready.pop() {
        let handed = handed_to(&stages[index], stages, &all);
        if let Some(own) = all[index].as_object_mut() {
            own.extend(handed);
            own.extend(besides.get(&index).into_iter().flatten().cloned());
        }
        for reader in &readers[index] {
            waits_for[*reader] -= 1;
            if waits_for[*reader] == 0 {
                ready.push(*reader);
            }
        }
    }
    all
}

fn handed_to(stage: &Stage, stages: &[Stage], all: &[Value]) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for wire in &stage.inputs {
        found.push((format!("inputs.{}", wire.port), Value::Bool(true)));
        let From::Stage(source, output) = &wire.from else { continue };
        let port = stages[*source].kind.outputs.iter().find(|port| port.name == *output);
        for (fact, of) in port.into_iter().flat_map(|port| &port.hands_on) {
            let value = all[*source].get(of).filter(|value| !value.is_null() && !wire.fan_in);
            let name = || format!("inputs.{}.{fact}", wire.port);
            found.extend(value.map(|value| (name(), value.clone())));
        }
    }
    found
}
