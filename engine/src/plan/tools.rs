//! The keys `tools`, `metrics` and `rows` of an `exec` stage.

use super::instance::Instance;
use crate::spec::{At, Mistakes, Pipeline, Problem, StageSpec, interpolate};

/// The programs whose bytes enter the fingerprint, in the order of their names.
pub(super) fn tools(
    instance: &Instance<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<Vec<String>> {
    let Some(node) = &instance.spec.tools else { return Some(Vec::new()) };
    let node = interpolate(node, &instance.scope(pipeline), &pipeline.sources, mistakes)?;
    let items = match node.as_list() {
        [] => std::slice::from_ref(&node),
        items => items,
    };
    let mut names = Vec::new();
    for item in items {
        let name = item.as_text().filter(|it| !it.is_empty() && !it.contains(['/', '\0']));
        let Some(name) = name else {
            let words = "`tools` is a list of names of programs, as `PATH` finds them: a script of yours is an input";
            mistakes.add(&pipeline.sources, item.at, Problem::Exec(words.to_owned()));
            return None;
        };
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    Some(names)
}

/// The input whose rows are treated one by one, and the output with a line for each.
pub(super) fn rows(
    spec: &StageSpec,
    add: &mut impl FnMut(At, Problem),
) -> Option<(String, String)> {
    let node = spec.rows.as_ref()?;
    let mut refuse = |words: String| {
        add(node.at, Problem::Exec(words));
        None
    };
    let ([entry], Some(output)) =
        (node.entries(), node.entries().first().and_then(|it| it.value.as_text()))
    else {
        return refuse(
            "`rows` is `{ INPUT: OUTPUT }`: a line of the output for each row of the input"
                .to_owned(),
        );
    };
    if spec.inputs.iter().all(|it| it.key != entry.key) {
        return refuse(format!(
            "`rows` names the input `{}`, and the stage has none of that name",
            entry.key
        ));
    }
    let is_only = matches!(spec.outputs.as_slice(), [only] if only.name == output && !only.path.ends_with('/'));
    if !is_only || spec.metrics.is_some() {
        return refuse(format!(
            "a stage with `rows` has one output, `{output}`, which is a file, and no `metrics`: of rows that are known \
             already the program would say nothing there"
        ));
    }
    Some((entry.key.clone(), output.to_owned()))
}

/// The file below the stage's folder whose numbers become the stage's metrics.
pub(super) fn metrics(spec: &StageSpec, add: &mut impl FnMut(At, Problem)) -> Option<String> {
    let node = spec.metrics.as_ref()?;
    let below = |path: &str| {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        !path.contains("${") && path.split('/').all(plain) && !path.starts_with("inputs/")
    };
    let path = node.as_text().filter(|path| below(path));
    if path.is_none() {
        let words = "`metrics` is the path of a JSON file below the stage's own folder";
        add(node.at, Problem::Exec(words.to_owned()));
    }
    path.map(str::to_owned)
}
