//! `include`: other pipeline files, whose stages and templates stand under a name of their own.
//!
//! A name means what it means in the file that it is written in: every text belongs to a [`Module`], and
//! that is where `${params…}`, `${env…}` and the names of stages lead from there. So a parameter that is
//! given to an included file may name a stage of the file that gives it.

use std::{path::PathBuf, sync::Arc};

use super::{
    mistake::Problem,
    module::{Given, Module},
    node::{Data, Entry, Node},
    overlay,
    place::SourceText,
    read::read,
    reader::Reader,
    reference::is_name,
};

const PIPELINE_KEYS: &[&str] =
    &["name", "description", "seed", "include", "params", "env", "templates", "stages", "snapshot"];
const INCLUDE_KEYS: &[&str] = &["path", "params", "seed", "matrix", "rounds", "first"];
/// What stands before the names of the round before.
pub(crate) const PREVIOUS: &str = "previous";
const MOST_INCLUDES: usize = 100;
/// Files that include each other, one in the other.
const DEEPEST: usize = 8;
/// Bytes of all included texts, each as often as it is included.
const MOST_BYTES: usize = 4 << 20;

impl Reader<'_> {
    /// Reads a whole file, those that it includes before itself.
    pub(super) fn file(&mut self, root: &Node, place: &str, prefix: &str, given: Given) {
        let Given { params: given, seed, matrix, rounds, first, at } = given;
        self.keys(root, place, PIPELINE_KEYS);
        let own = self.modules.len();
        let empty = Node { data: Data::Map(Vec::new()), at: root.at };
        let mut params = self.map(root.get("params"), "`params`").cloned().unwrap_or(empty);
        let over = Node { data: Data::Map(given.clone()), at: root.at };
        overlay::merge(&mut params, over, &self.sources, self.mistakes);
        let env = self.list_of_text(root.get("env"), "`env`");
        let file = self.open.last().filter(|_| own > 0).cloned();
        self.modules.push(Module {
            prefix: prefix.to_owned(),
            params,
            env,
            file,
            sound: true,
            given,
            seed,
            matrix,
            rounds,
            first,
            at,
        });
        for entry in self.entries(root.get("include"), "`include`") {
            if self.include(&entry, prefix).is_none() && self.modules.len() <= 2 * MOST_INCLUDES {
                // References to what it might have held are no mistakes of their own.
                let prefix = format!("{prefix}{}/", entry.key);
                self.modules.push(Module { prefix, sound: false, ..Module::default() });
            }
        }
        let templates = self.entries(root.get("templates"), "`templates`");
        self.templates_of(templates, prefix);
        let stages = self.entries(root.get("stages"), "`stages`");
        self.names.extend(stages.iter().map(|entry| format!("{prefix}{}", entry.key)));
        for entry in &stages {
            let stage = self.stage(entry, prefix);
            self.stages.extend(stage);
        }
        let holds = ["stages", "include", "templates"];
        let needs = if own == 0 { &holds[..2] } else { &holds[..] };
        if matches!(root.data, Data::Map(_)) && needs.iter().all(|key| root.get(key).is_none()) {
            self.add(root.at, Problem::MissingKey { place: place.to_owned(), key: "stages" });
        }
    }

    /// Reads one entry of `include`; `None` if its file could not be read.
    fn include(&mut self, entry: &Entry, prefix: &str) -> Option<()> {
        let place = format!("the include `{}`", entry.key);
        if !is_name(&entry.key) {
            self.add(entry.at, Problem::BadName { what: format!("`{}`", entry.key) });
            return None;
        }
        if entry.key == PREVIOUS {
            let words = "`previous` is what a file that goes round calls the round before: choose another name";
            self.add(entry.at, Problem::Rounds(words.to_owned()));
        }
        let (path, given) = match &entry.value.data {
            Data::Map(_) => {
                self.keys(&entry.value, &place, INCLUDE_KEYS);
                let params = self.entries(entry.value.get("params"), "`params`");
                let matrix = self.entries(entry.value.get("matrix"), "`matrix`");
                let seed = entry.value.get("seed").cloned();
                let rounds = entry.value.get("rounds").cloned();
                let first = self.entries(entry.value.get("first"), "`first`");
                if let Some(entry) = first.first().filter(|_| rounds.is_none()) {
                    self.add(entry.at, Problem::MissingKey { place: place.clone(), key: "rounds" });
                }
                let given = Given { params, seed, matrix, rounds, first, at: entry.at };
                if entry.value.get("path").is_none() {
                    self.add(entry.at, Problem::MissingKey { place, key: "path" });
                    return None;
                }
                (entry.value.get("path")?, given)
            }
            _ => (&entry.value, Given { at: entry.at, ..Given::default() }),
        };
        let text = self.text(Some(path), "the path of an include")?;
        if text.contains("${") {
            let what = "an included file is named as it is, and nothing filled in";
            self.add(path.at, Problem::Unsupported(what));
            return None;
        }
        if self.open.len() > DEEPEST {
            let what = "files included one in the other";
            self.add(path.at, Problem::Limit { what, limit: DEEPEST });
            return None;
        }
        self.included += 1;
        if self.included > MOST_INCLUDES {
            // Said once: of all others the same could be said.
            if self.included == MOST_INCLUDES + 1 {
                let what = "included files";
                self.add(path.at, Problem::Limit { what, limit: MOST_INCLUDES });
            }
            return None;
        }
        let root = self.open_file(&text, path)?;
        self.file(&root, &format!("`{text}`"), &format!("{prefix}{}/", entry.key), given);
        self.open.pop();
        Some(())
    }

    /// Reads the file at `text`, which stays open while what it includes is read.
    fn open_file(&mut self, text: &str, path: &Node) -> Option<Node> {
        let found = self.sources.file(text, path.at, &self.folder);
        let real = found.map_err(|problem| self.add(path.at, problem)).ok()?;
        if let Some(first) = self.open.iter().position(|open| *open == real) {
            let circle = self.open[first..].iter().chain([&real]);
            let names = circle.map(|file| file.file_name().unwrap_or_default().to_string_lossy());
            let names = names.collect::<Vec<_>>().join(" → ");
            self.add(path.at, Problem::IncludeCycle(names));
            return None;
        }
        let content = self.texts.read(&real).map_err(|problem| match problem {
            Problem::Unreadable { why, .. } => Problem::Unreadable { path: text.to_owned(), why },
            other => other,
        });
        let content = content.map_err(|problem| self.add(path.at, problem)).ok()?;
        self.bytes += content.len();
        if self.bytes > MOST_BYTES {
            // Of what comes next nothing is read, nor said.
            self.included = MOST_INCLUDES + 1;
            let what = "bytes of all included files";
            self.add(path.at, Problem::Limit { what, limit: MOST_BYTES });
            return None;
        }
        let base = self.sources.get(path.at).base.join(text);
        let name = base.strip_prefix(".").unwrap_or(&base).display().to_string();
        let source = self.sources.add(SourceText {
            name,
            text: Arc::from(content),
            base: base.parent().map(PathBuf::from).unwrap_or_default(),
            trusted: false,
            module: self.modules.len(),
        });
        let root = read(&self.sources, source, self.mistakes)?;
        self.open.push(real);
        Some(root)
    }
}
