//! What parameters must not say together, as the catalogue has it.

use serde_json::Value;

use super::instance::Instance;
use crate::spec::{Mistakes, Pipeline, Problem};

/// Adds a mistake for each rule of the kind that `params`, complete, break. It stands at the first of the rule's
/// parameters that the stage says.
pub(super) fn check(
    instance: &Instance<'_>,
    params: &Value,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) {
    let spec = instance.spec;
    if instance.kind.rules.is_empty() {
        return;
    }
    let mut all = params.clone();
    for input in &spec.inputs {
        all[format!("inputs.{}", input.key)] = Value::Bool(true);
    }
    for rule in instance.kind.rules.iter().filter(|rule| rule.is_broken_by(&all)) {
        let said = rule.when.iter().find_map(|condition| spec.with.get(&condition.param));
        let at = said.map_or(spec.at, |node| node.at);
        let problem = Problem::Rule { stage: instance.id.clone(), words: rule.words.clone() };
        mistakes.add(&pipeline.sources, at, problem);
    }
}
