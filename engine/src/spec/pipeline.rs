//! The keys of a pipeline file, and nothing about what kinds there are.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    bounds::LARGEST_TEXT,
    mistake::{Mistakes, Problem, nearest},
    node::{At, Data, Entry, Node, SourceText, Sources},
    overlay::{self, Overrides},
    read::read,
    snapshot::SnapshotSpec,
};

const PIPELINE_KEYS: &[&str] = &["name", "description", "params", "env", "stages", "snapshot"];
const STAGE_KEYS: &[&str] = &[
    "kind",
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
    "env",
    "secret",
];
/// Those of them that say how a stage is carried out.
const CONDUCT_KEYS: &[&str] = &["cache", "retries", "timeout", "resources"];

/// A pipeline as written, with the command line's parameters laid over its own.
#[derive(Debug)]
pub struct Pipeline {
    pub name: String,
    pub description: String,
    pub params: Node,
    /// Environment variables that values may use.
    pub env: Vec<String>,
    pub stages: Vec<StageSpec>,
    /// What a test compares; `None` if the pipeline does not say.
    pub snapshots: Option<Vec<SnapshotSpec>>,
    /// All names under `stages`, also those of stages that could not be read.
    pub names: Vec<String>,
    pub sources: Sources,
    /// The folder that the pipeline's paths are relative to.
    pub folder: PathBuf,
}

/// One entry of `stages`.
#[derive(Debug)]
pub struct StageSpec {
    pub name: String,
    /// Where the name stands.
    pub at: At,
    pub kind: String,
    pub kind_at: At,
    pub with: Node,
    pub inputs: Vec<Entry>,
    pub matrix: Vec<Entry>,
    /// Whether it is there at all.
    pub when: Option<Node>,
    /// Of an `exec` stage: what it leaves behind.
    pub outputs: Vec<ExecSpec>,
    /// Of an `exec` stage: variables for the program.
    pub env: Option<Node>,
    /// Of an `exec` stage: names of variables whose values nobody else sees.
    pub secret: Option<Node>,
    /// How it is carried out: keys that change none of its bytes.
    pub conduct: Vec<Entry>,
}

/// An output that an `exec` stage declares.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    pub name: String,
    pub path: String,
    /// The port type; `file` or `folder` unless said otherwise.
    pub port_type: String,
    pub at: At,
}

/// What an input's text refers to, once it is known not to be a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    pub stage: &'a str,
    /// `*` or `key=value,…`, without the brackets.
    pub variant: Option<&'a str>,
    pub output: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads `stage`, `stage.output`, `stage[*]`, `stage[beta=0.1].output`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, variant, tail) = match text.split_once('[') {
            Some((head, rest)) => {
                let (variant, tail) = rest.rsplit_once(']')?;
                (head, Some(variant), tail)
            }
            None => match text.split_once('.') {
                Some((head, _)) => (head, None, &text[head.len()..]),
                None => (text, None, ""),
            },
        };
        let output = match tail {
            "" => None,
            tail => Some(tail.strip_prefix('.')?),
        };
        Some(Self { stage: head, variant, output })
    }
}

/// Reads the pipeline at `path`. What is wrong with its keys goes to `mistakes`, and the rest is still
/// read, so that a plan can add its own; `None` only for what is no text or no YAML at all.
pub fn load(path: &Path, overrides: &Overrides, mistakes: &mut Mistakes) -> Option<Pipeline> {
    let text = match bounded_text(path) {
        Ok(text) => text,
        Err(problem) => {
            mistakes.add_unplaced(problem);
            return None;
        }
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut sources = Sources::default();
    let source = sources.add(SourceText {
        name: path.display().to_string(),
        text: Arc::from(text),
        base: folder.clone(),
        trusted: false,
    });
    let root = read(&sources, source, mistakes)?;
    let mut reader = Reader { sources: &sources, mistakes };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut pipeline = reader.pipeline(&root, stem, folder);
    overlay::apply(&mut pipeline.params, overrides, &mut sources, mistakes);
    pipeline.sources = sources;
    Some(pipeline)
}

/// The text of a file that a person named. A huge one is not read to its end.
pub(super) fn bounded_text(path: &Path) -> Result<String, Problem> {
    let name = || path.display().to_string();
    let unreadable = |why: &str| Problem::Unreadable { path: name(), why: why.to_owned() };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            Problem::MissingFile { path: name(), relative_to: "the folder you are in".to_owned() }
        }
        ErrorKind::IsADirectory => unreadable("it is a folder"),
        _ => unreadable(&error.to_string()),
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_TEXT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LARGEST_TEXT {
        return Err(unreadable("it is larger than a mebibyte, and a pipeline only names its data"));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text"))
}

pub(super) struct Reader<'a> {
    sources: &'a Sources,
    pub(super) mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn pipeline(&mut self, root: &Node, stem: String, folder: PathBuf) -> Pipeline {
        self.keys(root, "the pipeline", PIPELINE_KEYS);
        let empty = Node { data: Data::Map(Vec::new()), at: root.at };
        let params = self.map(root.get("params"), "`params`").cloned().unwrap_or(empty);
        let env = self.list_of_text(root.get("env"), "`env`");
        let stages = if let Some(stages) = self.map(root.get("stages"), "`stages`") {
            stages.entries().iter().filter_map(|e| self.stage(e)).collect()
        } else {
            if matches!(root.data, Data::Map(_)) && root.get("stages").is_none() {
                let place = "the pipeline".to_owned();
                self.add(root.at, Problem::MissingKey { place, key: "stages" });
            }
            Vec::new()
        };
        Pipeline {
            name: self.text(root.get("name"), "`name`").unwrap_or(stem),
            description: self.text(root.get("description"), "`description`").unwrap_or_default(),
            params,
            env,
            stages,
            snapshots: self.snapshots(root.get("snapshot")),
            names: root
                .get("stages")
                .map_or(&[][..], Node::entries)
                .iter()
                .map(|e| e.key.clone())
                .collect(),
            sources: Sources::default(),
            folder,
        }
    }

    fn stage(&mut self, entry: &Entry) -> Option<StageSpec> {
        let place = format!("stage `{}`", entry.key);
        if !is_name(&entry.key) {
            self.add(entry.at, Problem::BadName { what: format!("`{}`", entry.key) });
        }
        let node = self.map(Some(&entry.value), &place)?;
        self.keys(node, &place, STAGE_KEYS);
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
            name: entry.key.clone(),
            at: entry.at,
            kind,
            kind_at: kind_node.at,
            with,
            inputs: self.entries(node.get("inputs"), "`inputs`"),
            matrix,
            when: node.get("when").cloned(),
            outputs: self.outputs(node.get("outputs")),
            env: self.map(node.get("env"), "`env`").cloned(),
            secret: node.get("secret").cloned(),
            conduct: conduct.cloned().collect(),
        })
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

    fn entries(&mut self, node: Option<&Node>, what: &str) -> Vec<Entry> {
        self.map(node, what).map(|node| node.entries().to_vec()).unwrap_or_default()
    }

    fn map<'n>(&mut self, node: Option<&'n Node>, what: &str) -> Option<&'n Node> {
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
        self.mistakes.add(self.sources, at, problem);
    }
}

/// Whether `text` can name a stage, an axis of a matrix, or a port.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
