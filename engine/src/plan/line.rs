//! Stages that differ in nothing but how long they work, and go on from each other.
//!
//! The shortest runs first: then each begins where the one before it ended, and no step is taken twice.

use serde_json::Value;

use super::stage::Stage;

/// For every stage the shorter ones of its line.
pub(crate) fn shorter(stages: &[Stage]) -> Vec<Vec<usize>> {
    let all = (0..stages.len()).filter(|index| stages[*index].extends()).collect::<Vec<_>>();
    let mut shorter = vec![Vec::new(); stages.len()];
    for &index in &all {
        let is_shorter = |other: &&usize| {
            let (one, other) = (&stages[index], &stages[**other]);
            are_of_one_line(one, other) && length(other) < length(one)
        };
        shorter[index] = all.iter().filter(is_shorter).copied().collect();
    }
    shorter
}

/// Whether two stages will have the same line, as far as a plan can tell.
fn are_of_one_line(one: &Stage, other: &Stage) -> bool {
    let wires = |stage: &Stage| {
        stage.inputs.iter().map(|it| (it.port.clone(), it.from.clone())).collect::<Vec<_>>()
    };
    let params = |stage: &Stage| {
        let mut params = stage.params.clone();
        let names = stage.kind.length.iter().flat_map(|length| &length.params);
        for name in names {
            params[name.as_str()] = Value::Null;
        }
        params
    };
    one.kind.kind == other.kind.kind
        && (one.seed, &one.files) == (other.seed, &other.files)
        && wires(one) == wires(other)
        && params(one) == params(other)
}

/// Comparable where the same parameter says it.
fn length(stage: &Stage) -> Option<(&str, f64)> {
    let mut names = stage.kind.length.iter().flat_map(|length| &length.params);
    names.find_map(|name| Some((name.as_str(), stage.params[name].as_f64()?)))
}
