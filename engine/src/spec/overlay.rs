//! Parameters from outside the pipeline: `--params FILE`, then `--set a.b=c`.

use std::{fs, path::PathBuf, sync::Arc};

use super::{
    mistake::{Mistakes, Problem, nearest},
    node::{At, Data, Node, SourceText, Sources},
    read::read,
};

/// What the command line says about parameters.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Files of parameters, later ones win.
    pub files: Vec<PathBuf>,
    /// `a.b=value`, in order; values are YAML.
    pub settings: Vec<String>,
    /// What relative paths in settings are relative to.
    pub folder: PathBuf,
}

/// Lays `overrides` over `params`. Only a parameter that the pipeline has can be set.
pub(super) fn apply(
    params: &mut Node,
    overrides: &Overrides,
    sources: &mut Sources,
    mistakes: &mut Mistakes,
) {
    for file in &overrides.files {
        match fs::read_to_string(file) {
            Ok(text) => {
                let base = file.parent().map(PathBuf::from).unwrap_or_default();
                let source = add(sources, file.display().to_string(), &text, base);
                if let Some(node) = read(sources, source, mistakes) {
                    merge(params, node, sources, mistakes);
                }
            }
            Err(error) => {
                mistakes.add_unplaced(Problem::MissingFile(format!("{}: {error}", file.display())))
            }
        }
    }
    for setting in &overrides.settings {
        set(params, setting, overrides, sources, mistakes);
    }
}

fn add(sources: &mut Sources, name: String, text: &str, base: PathBuf) -> usize {
    sources.add(SourceText { name, text: Arc::from(text), base, trusted: true })
}

fn set(
    params: &mut Node,
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
    let Some(mut value) = read(sources, source, mistakes) else { return };
    if setting.ends_with('=') {
        value.data = Data::Text(String::new());
    }
    sources.rename_text(source, setting);
    let key_at = At { source, start: 0, end: path.len() };
    let mut target = params;
    for part in path.split('.') {
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
    *target = value;
}

fn unknown(
    path: &str,
    part: &str,
    known: &[String],
    at: At,
    sources: &Sources,
    mistakes: &mut Mistakes,
) {
    let problem = Problem::UnknownKey {
        place: "`params`".to_owned(),
        key: path.to_owned(),
        nearest: nearest(part, known.iter().map(String::as_str)),
        known: if known.is_empty() { "nothing".to_owned() } else { known.join(", ") },
    };
    mistakes.add(sources, at, problem);
}

fn merge(into: &mut Node, from: Node, sources: &Sources, mistakes: &mut Mistakes) {
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
