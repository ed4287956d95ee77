//! Reads the keys of pipeline files, from one to the next that it includes.

use std::path::{Path, PathBuf};

use super::{
    mistake::{Mistakes, Problem, nearest},
    module::Module,
    node::{Data, Entry, Node},
    place::{At, Sources},
    reference::is_name,
    stage::{ExecSpec, StageSpec},
    text::Texts,
};

pub(super) const STAGE_KEYS: &[&str] = &[
    "kind",
    "template",
    "args",
    "description",
    "with",
    "inputs",
    "outputs",
    "matrix",
    "when",
    "cache",
    "retries",
    "timeout",
    "resources",
    "frozen",
    "env",
    "secret",
    "tools",
    "metrics",
    "rows",
    "ignore",
];
/// Those of them that say how a stage is carried out.
const CONDUCT_KEYS: &[&str] = &["cache", "retries", "timeout", "resources", "frozen", "ignore"];

/// An entry of `templates`.
#[derive(Debug)]
pub(super) struct Template {
    /// With the names of the includes that it came by.
    pub(super) name: String,
    pub(super) at: At,
    pub(super) used: bool,
    /// Whether all that it builds on could be read.
    pub(super) sound: bool,
    pub(super) body: Node,
    /// Arguments with their defaults.
    pub(super) defaults: Vec<Entry>,
    /// Arguments that a stage must give.
    pub(super) required: Vec<String>,
}

/// What has been read of all files so far.
pub(super) struct Reader<'a> {
    pub(super) sources: Sources,
    pub(super) mistakes: &'a mut Mistakes,
    /// The pipeline's own folder, which no path leaves.
    pub(super) folder: PathBuf,
    pub(super) modules: Vec<Module>,
    pub(super) templates: Vec<Template>,
    pub(super) stages: Vec<StageSpec>,
    /// All names under `stages`, also those of stages that could not be read.
    pub(super) names: Vec<String>,
    /// The files that include each other down to the one being read.
    pub(super) open: Vec<PathBuf>,
    /// Files that were to be included.
    pub(super) included: usize,
    /// Bytes of all included texts.
    pub(super) bytes: usize,
    /// In place of what files hold.
    pub(super) texts: Texts,
    /// What stages have taken from templates.
    pub(super) expanded: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(folder: &Path, sources: Sources, mistakes: &'a mut Mistakes) -> Self {
        Self {
            sources,
            mistakes,
            folder: folder.to_owned(),
            modules: Vec::new(),
            templates: Vec::new(),
            stages: Vec::new(),
            names: Vec::new(),
            open: Vec::new(),
            included: 0,
            bytes: 0,
            texts: Texts::default(),
            expanded: 0,
        }
    }
}

impl Reader<'_> {
    /// Reads an entry of `stages` in a file whose names begin with `prefix`.
    pub(super) fn stage(&mut self, entry: &Entry, prefix: &str) -> Option<StageSpec> {
        let place = format!("stage `{}`", entry.key);
        if !is_name(&entry.key) {
            self.add(entry.at, Problem::BadName { what: format!("`{}`", entry.key) });
        }
        let written = self.body(entry, &place)?;
        self.keys(&written, &place, STAGE_KEYS);
        let (node, args) = self.expanded_stage(&entry.key, written)?;
        let node = &node;
        let Some(kind_node) = node.get("kind") else {
            self.add(entry.at, Problem::MissingKey { place, key: "kind" });
            return None;
        };
        let kind = self.text(Some(kind_node), "`kind`")?;
        self.text(node.get("description"), "`description`");
        let matrix = self.entries(node.get("matrix"), "`matrix`");
        for axis in matrix.iter().filter(|axis| !is_name(&axis.key)) {
            self.add(axis.at, Problem::BadName { what: format!("`{}`", axis.key) });
        }
        let empty = Node { data: Data::Map(Vec::new()), at: entry.at };
        let conduct = node.entries().iter().filter(|e| CONDUCT_KEYS.contains(&e.key.as_str()));
        let with = self.map(node.get("with"), "`with`").cloned().unwrap_or(empty);
        Some(StageSpec {
            name: format!("{prefix}{}", entry.key),
            prefix: prefix.to_owned(),
            at: entry.at,
            args,
            kind,
            kind_at: kind_node.at,
            with,
            inputs: self.entries(node.get("inputs"), "`inputs`"),
            matrix,
            when: node.get("when").cloned(),
            outputs: self.outputs(node.get("outputs")),
            env: self.map(node.get("env"), "`env`").cloned(),
            secret: node.get("secret").cloned(),
            tools: node.get("tools").cloned(),
            metrics: node.get("metrics").cloned(),
            rows: node.get("rows").cloned(),
            conduct: conduct.cloned().collect(),
        })
    }

    /// The map that a stage or a template is; one that says nothing is an empty one.
    pub(super) fn body(&mut self, entry: &Entry, place: &str) -> Option<Node> {
        match &entry.value.data {
            Data::Null => Some(Node { data: Data::Map(Vec::new()), at: entry.at }),
            _ => self.map(Some(&entry.value), place).cloned(),
        }
    }

    fn outputs(&mut self, node: Option<&Node>) -> Vec<ExecSpec> {
        let mut outputs = Vec::new();
        for Entry { key, at, value } in self.entries(node, "`outputs`") {
            if !is_name(&key) {
                self.add(at, Problem::BadName { what: format!("`{key}`") });
            }
            let (path, port_type) = match &value.data {
                Data::Map(_) => {
                    self.keys(&value, "an output", &["path", "type"]);
                    let port_type = self.text(value.get("type"), "`type`");
                    (self.text(value.get("path"), "`path`"), port_type)
                }
                _ => (self.text(Some(&value), "an output's path"), None),
            };
            let Some(path) = path else { continue };
            let own = if path.ends_with('/') { "folder" } else { "file" };
            let port_type = port_type.unwrap_or_else(|| own.to_owned());
            outputs.push(ExecSpec { name: key, path, port_type, at: value.at });
        }
        outputs
    }

    pub(super) fn keys(&mut self, node: &Node, place: &str, known: &[&str]) {
        if let Data::Map(_) = node.data {
            for entry in node.entries().iter().filter(|e| !known.contains(&e.key.as_str())) {
                let problem = Problem::UnknownKey {
                    place: place.to_owned(),
                    key: entry.key.clone(),
                    nearest: nearest(&entry.key, known.iter().copied()),
                    known: known.join(", "),
                };
                self.add(entry.at, problem);
            }
        } else {
            self.wrong_type(node, place, "a map");
        }
    }

    pub(super) fn entries(&mut self, node: Option<&Node>, what: &str) -> Vec<Entry> {
        self.map(node, what).map(|node| node.entries().to_vec()).unwrap_or_default()
    }

    pub(super) fn map<'n>(&mut self, node: Option<&'n Node>, what: &str) -> Option<&'n Node> {
        let node = node.filter(|node| !matches!(node.data, Data::Null))?;
        if matches!(node.data, Data::Map(_)) {
            return Some(node);
        }
        self.wrong_type(node, what, "a map");
        None
    }

    pub(super) fn text(&mut self, node: Option<&Node>, what: &str) -> Option<String> {
        let node = node?;
        if let Some(text) = node.as_text() {
            return Some(text.to_owned());
        }
        self.wrong_type(node, what, "text");
        None
    }

    pub(super) fn list_of_text(&mut self, node: Option<&Node>, what: &str) -> Vec<String> {
        let Some(node) = node else { return Vec::new() };
        let Data::List(items) = &node.data else {
            self.wrong_type(node, what, "a list of names");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.text(Some(item), what)).collect()
    }

    pub(super) fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let (what, expected) = (what.to_owned(), expected.to_owned());
        self.add(node.at, Problem::WrongType { what, expected, found: node.sort().to_owned() });
    }

    pub(super) fn add(&mut self, at: At, problem: Problem) {
        self.mistakes.add(&self.sources, at, problem);
    }
}
