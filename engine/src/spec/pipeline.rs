//! A pipeline as it is written, all its files together, and nothing about what kinds there are.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    bounds::LARGEST_TEXT,
    budget::Budget,
    include::{Given, Module},
    mistake::{Mistakes, Problem},
    node::{At, Entry, Node, SourceText, Sources},
    overlay::{self, Overrides},
    read::read,
    reader::Reader,
    snapshot::SnapshotSpec,
};

/// A pipeline as written, with the command line's parameters laid over its own.
#[derive(Debug)]
pub struct Pipeline {
    pub name: String,
    /// Its own file, by its absolute path.
    pub file: PathBuf,
    pub description: String,
    /// Its own file, then those that it includes.
    pub modules: Vec<Module>,
    pub stages: Vec<StageSpec>,
    /// What a test compares; `None` if the pipeline does not say.
    pub snapshots: Option<Vec<SnapshotSpec>>,
    /// All names under `stages`, also those of stages that could not be read.
    pub names: Vec<String>,
    /// For all its values, filled in.
    pub budget: Budget,
    pub sources: Sources,
    /// The folder that the pipeline's paths are relative to.
    pub folder: PathBuf,
}

/// One entry of `stages`.
#[derive(Debug)]
pub struct StageSpec {
    /// With the names of the includes that it came by: `base/sft`.
    pub name: String,
    /// These names alone: `base/`.
    pub prefix: String,
    /// What its template, if any, calls `${args.NAME}`.
    pub args: Vec<Entry>,
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

impl Pipeline {
    /// The seed that is said for stages whose names begin with `prefix`, by the innermost that says one.
    pub(crate) fn seed_below(&self, prefix: &str) -> Option<&Node> {
        let about = self.modules.iter().filter(|module| prefix.starts_with(&module.prefix));
        let saying = about.filter(|module| module.seed.is_some());
        saying.max_by_key(|module| module.prefix.len())?.seed.as_ref()
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
        module: 0,
    });
    let root = read(&sources, source, mistakes)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader = Reader::new(&folder, sources, mistakes);
    reader.open.extend(path.canonicalize().ok());
    let seed = root.get("seed").cloned();
    reader.file(&root, "the pipeline", "", Given { seed, ..Given::default() });
    let name = reader.text(root.get("name"), "`name`").unwrap_or(stem);
    let description = reader.text(root.get("description"), "`description`").unwrap_or_default();
    let snapshots = reader.snapshots(root.get("snapshot"));
    let Reader { mut sources, mut modules, stages, names, .. } = reader;
    if let Some(own) = modules.first_mut() {
        overlay::apply(own, overrides, &mut sources, mistakes);
    }
    let budget = Budget::default();
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Some(Pipeline {
        name,
        file,
        description,
        modules,
        stages,
        snapshots,
        names,
        budget,
        sources,
        folder,
    })
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

/// Names of includes stand before those of stages, so that none may be long.
const LONGEST_NAME: usize = 128;

/// Whether `text` can name a stage, an axis of a matrix, or a port.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
