//! What is written and used nowhere: parameters, templates and includes. No mistake, but mostly one.

use super::{
    mistake::Problem,
    module::Module,
    node::{Data, Entry},
    place::{At, Sources},
    reader::Template,
};

const REFERENCE: &str = "params.";

/// Templates of the pipeline's own file that no stage uses, and includes that bring nothing. A file of templates that
/// several pipelines share may have more than one of them needs.
pub(super) fn parts(
    modules: &[Module],
    stages: &[String],
    templates: &[Template],
) -> Vec<(At, Problem)> {
    let unused = |what: &'static str, name: &str| Problem::Unused { what, name: name.to_owned() };
    let own = templates.iter().filter(|it| !it.name.contains('/') && !it.used);
    let mut found: Vec<_> = own.map(|it| (it.at, unused("the template", &it.name))).collect();
    for module in modules.iter().skip(1).filter(|module| module.sound) {
        let brings = |name: &String| name.starts_with(&module.prefix);
        let used = |it: &Template| it.used && brings(&it.name);
        if !stages.iter().any(brings) && !templates.iter().any(used) {
            let name = module.prefix.trim_end_matches('/');
            found.push((module.at, unused("the include", name)));
        }
    }
    found
}

/// Parameters that no value of their file names. One file may be included more than once and is told once.
pub(super) fn params(modules: &[Module], sources: &Sources) -> Vec<(At, Problem)> {
    let mut found: Vec<(At, Problem)> = Vec::new();
    for (number, module) in modules.iter().enumerate() {
        let used = references(sources, number);
        unread(module.params.entries(), "", &used, &mut |name, at| {
            let place = |at: At| (&sources.get(at).name, at.start);
            if !found.iter().any(|(other, _)| place(*other) == place(at)) {
                found.push((at, Problem::Unused { what: "the parameter", name }));
            }
        });
    }
    found
}

/// All `params.NAME` in the texts of a file, wherever they stand.
fn references(sources: &Sources, module: usize) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let texts = sources.iter().filter(|source| source.module == module);
    texts
        .flat_map(|source| {
            let rests = source.text.match_indices(REFERENCE);
            rests.map(|(at, word)| {
                let rest = &source.text[at + word.len()..];
                rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())].to_owned()
            })
        })
        .collect()
}

fn unread(entries: &[Entry], prefix: &str, used: &[String], tell: &mut impl FnMut(String, At)) {
    for Entry { key, at, value } in entries {
        let path = format!("{prefix}{key}");
        let below = format!("{path}.");
        // Named itself, or what it is a part of.
        let whole = |it: &String| path == *it || path.starts_with(&format!("{it}."));
        if used.iter().any(whole) {
            continue;
        }
        match &value.data {
            Data::Map(inner) if used.iter().any(|it| it.starts_with(&below)) => {
                unread(inner, &below, used, tell);
            }
            _ if used.iter().any(|it| it.starts_with(&below)) => {}
            _ => tell(path, *at),
        }
    }
}
