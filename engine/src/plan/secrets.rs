//! The key `secret`: the names of environment variables for a program. Names are written out and values are
//! read when the program starts, so that no plan can hold one.

use super::exec;
use crate::spec::{Data, Mistakes, Node, Pipeline, Problem, StageSpec};

/// What every program gets from the person's environment as it is.
const OPEN: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// The names that the stage gives.
pub(super) fn read(spec: &StageSpec, pipeline: &Pipeline, mistakes: &mut Mistakes) -> Vec<String> {
    let Some(node) = &spec.secret else { return Vec::new() };
    let items = match &node.data {
        Data::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let name = item.as_text().unwrap_or_default();
        match wrong(item, &names, spec, pipeline) {
            Some(words) => mistakes.add(&pipeline.sources, item.at, Problem::Secret(words)),
            None => names.push(name.to_owned()),
        }
    }
    names
}

/// What is wrong with one name, if anything. Never says more than the pipeline's text does.
fn wrong(item: &Node, before: &[String], spec: &StageSpec, pipeline: &Pipeline) -> Option<String> {
    let Some(name) = item.as_text().filter(|name| exec::is_variable(name)) else {
        return Some("a secret is the name of an environment variable, written out".to_owned());
    };
    if spec.kind != exec::KIND {
        return Some(format!("only `exec` takes secrets, and this stage is a `{}`", spec.kind));
    }
    if before.iter().any(|other| other == name) {
        return Some(format!("`{name}` stands here twice"));
    }
    let own = |variable: &str| {
        spec.inputs.iter().any(|it| exec::variable("INPUT", &it.key) == variable)
            || spec.outputs.iter().any(|it| exec::variable("OUTPUT", &it.name) == variable)
    };
    if OPEN.contains(&name) || own(name) {
        return Some(format!("`{name}` is given to every program, and is no secret"));
    }
    let set = [spec.env.as_ref(), spec.with.get("env")].into_iter().flatten();
    if set.into_iter().any(|env| env.get(name).is_some()) {
        return Some(format!("`{name}` is set by the stage's `env` already"));
    }
    if pipeline.modules.iter().any(|module| module.env.iter().any(|other| other == name)) {
        return Some(format!(
            "`{name}` is in the pipeline's `env`, whose values become part of what is kept"
        ));
    }
    None
}
