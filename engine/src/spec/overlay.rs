//! Parameters from outside the pipeline: `--params FILE`, then `--set a.b=c`.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    mistake::{Mistakes, Problem, nearest},
    module::Module,
    node::{Data, Node},
    place::{At, SourceText, Sources},
    read::read,
    text::Texts,
};

/// What the command line says about parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overrides {
    /// What files hold, where it is not what they hold now.
    pub texts: Texts,
    /// Files of parameters, later ones win.
    pub files: Vec<PathBuf>,
    /// `a.b=value`, in order; values are YAML.
    pub settings: Vec<String>,
    /// In place of the pipeline's own.
    pub seed: Option<u64>,
    /// What relative paths in settings are relative to.
    pub folder: PathBuf,
}

/// Lays `overrides` over the parameters and the seed. Only a parameter that the pipeline has can be set, or, behind the
/// name of an include, one of its file.
pub(super) fn apply(
    modules: &mut [Module],
    overrides: &Overrides,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) {
    let Some(pipeline) = modules.first_mut() else { return };
    if let Some(seed) = overrides.seed {
        let text = seed.to_string();
        let source = add(sources, "--seed".to_owned(), &text, overrides.folder.clone());
        let at = At { source, start: 0, end: text.len() };
        pipeline.seed = Some(Node { data: Data::Number(seed.into()), at });
    }
    let params = &mut pipeline.params;
    for file in &overrides.files {
        let text = match overrides.texts.read(file) {
            Ok(text) => text,
            Err(problem) => {
                mistakes.add_unplaced(problem);
                continue;
            }
        };
        let base = file.parent().map(PathBuf::from).unwrap_or_default();
        let source = add(sources, file.display().to_string(), &text, base);
        if let Some(node) = read(sources, source, mistakes) {
            merge(params, node, sources, mistakes);
        }
    }
    for setting in &overrides.settings {
        set(modules, setting, overrides, sources, mistakes);
    }
}

/// The parameters that `path` leads into, and what is left of it there.
fn owner<'m, 'p>(modules: &'m mut [Module], path: &'p str) -> Option<(&'m mut Node, &'p str)> {
    let (mut found, mut rest, mut prefix) = (0, path, String::new());
    while let Some((first, behind)) = rest.split_once('.') {
        // A parameter of that name is meant rather than an include.
        let is_param = modules[found].params.get(first).is_some();
        prefix = format!("{prefix}{first}/");
        match modules.iter().position(|module| module.prefix == prefix) {
            Some(module) if !is_param => (found, rest) = (module, behind),
            _ => break,
        }
    }
    Some((&mut modules.get_mut(found)?.params, rest))
}

fn add(sources: &mut Sources, name: String, text: &str, base: PathBuf) -> usize {
    sources.add(SourceText { name, text: Arc::from(text), base, trusted: true, module: 0 })
}

fn set(
    modules: &mut [Module],
    setting: &str,
    overrides: &Overrides,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) {
    let name = "--set".to_owned();
    let Some((path, _)) = setting.split_once('=') else {
        let source = add(sources, name, setting, overrides.folder.clone());
        let at = At { source, start: 0, end: setting.len() };
        let what = "a setting is written NAME=VALUE";
        mistakes.add(sources, at, Problem::Unsupported(what));
        return;
    };
    // Blanks instead of `NAME=`, so that places in the value are places in what was typed.
    let blanked = format!("{:1$}{2}", "", path.len() + 1, &setting[path.len() + 1..]);
    let source = add(sources, name, &blanked, overrides.folder.clone());
    let before = mistakes.list.len();
    let value = read(sources, source, mistakes);
    mistakes.show_as_typed(before, setting);
    sources.rename_text(source, setting);
    let Some(mut value) = value else { return };
    let typed = &setting[path.len() + 1..];
    if is_plain_text(typed, &value.data) {
        value.data = Data::Text(typed.to_owned());
    }
    let key_at = At { source, start: 0, end: path.len() };
    let Some((mut target, inner)) = owner(modules, path) else { return };
    for part in inner.split('.') {
        let known: Vec<_> = target.entries().iter().map(|entry| entry.key.clone()).collect();
        let Data::Map(entries) = &mut target.data else {
            unknown(path, part, &[], key_at, sources, mistakes);
            return;
        };
        match entries.iter_mut().find(|entry| entry.key == part) {
            Some(entry) => target = &mut entry.value,
            None => return unknown(path, part, &known, key_at, sources, mistakes),
        }
    }
    if let (Data::List(_), Data::Text(text)) = (&target.data, &value.data)
        && text.contains(',')
    {
        let problem = Problem::WrongType {
            what: format!("`{path}`"),
            expected: format!("a list: `--set '{path}=[{text}]'`"),
            found: "text".to_owned(),
        };
        return mistakes.add(sources, value.at, problem);
    }
    *target = value;
}

/// Whether `typed` is text to whoever typed it, all of it: YAML would take a `#` for a comment, and nothing for null.
fn is_plain_text(typed: &str, read: &Data) -> bool {
    let is_marked = typed.trim_start().starts_with(['"', '\'', '[', '{', '|', '>']);
    let commented = typed.starts_with('#') || typed.contains(" #");
    let is_text = matches!(read, Data::Text(_) | Data::Map(_) | Data::List(_));
    typed.is_empty() || !is_marked && (commented || is_text)
}

fn unknown(
    path: &str,
    part: &str,
    known: &[String],
    at: At,
    sources: &Sources,
    mistakes: &mut Mistakes,
) {
    // The part may lie deep: what could stand there instead is said with all that leads to it.
    let whole = |name: String| match path.split(&format!(".{part}")).next() {
        Some(before) if before != path => format!("{before}.{name}"),
        _ => name,
    };
    let problem = Problem::UnknownKey {
        place: "`params`".to_owned(),
        key: path.to_owned(),
        nearest: nearest(part, known.iter().map(String::as_str)).map(whole),
        known: if known.is_empty() {
            "nothing".to_owned()
        } else {
            known.iter().map(|name| whole(name.clone())).collect::<Vec<_>>().join(", ")
        },
    };
    mistakes.add(sources, at, problem);
}

pub(super) fn merge(into: &mut Node, from: Node, sources: &Sources, mistakes: &mut Mistakes) {
    let known: Vec<_> = into.entries().iter().map(|entry| entry.key.clone()).collect();
    match (&mut into.data, from.data) {
        (Data::Map(entries), Data::Map(new)) => {
            for new in new {
                match entries.iter_mut().find(|entry| entry.key == new.key) {
                    Some(entry) => merge(&mut entry.value, new.value, sources, mistakes),
                    None => unknown(&new.key, &new.key, &known, new.at, sources, mistakes),
                }
            }
        }
        (_, data) => *into = Node { data, at: from.at },
    }
}
