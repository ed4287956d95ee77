//! What parameters must not say together, and not beside what inputs hand on, as the catalogue has it.

use serde_json::Value;

use super::stage::Stage;
use crate::spec::{Mistakes, Pipeline, Problem};

/// Adds a mistake for each rule that a stage breaks. It stands at the first of the rule's parameters that the stage says.
pub(super) fn check(
    stages: &[Stage],
    said: &[Value],
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    for (stage, said) in stages.iter().zip(said).filter(|(_, said)| said.is_object()) {
        for rule in stage.kind.rules.iter().filter(|rule| rule.is_broken_by(said)) {
            let spec = pipeline.stages.iter().find(|spec| spec.name == stage.spec);
            let written = spec.and_then(|spec| {
                rule.when.iter().find_map(|condition| spec.with.get(&condition.param))
            });
            let at = written.map_or(stage.at, |node| node.at);
            let words = rule.words_of(said);
            let problem = Problem::Rule { stage: stage.id.clone(), words };
            mistakes.add(&pipeline.sources, at, problem);
        }
    }
}
