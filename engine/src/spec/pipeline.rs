//! A pipeline as it is written, all its files together, and nothing about what kinds there are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    budget::Budget,
    mistake::Mistakes,
    module::{Given, Module},
    node::Node,
    overlay::{self, Overrides},
    place::{SourceText, Sources},
    read::read,
    reader::Reader,
    snapshot::SnapshotSpec,
    stage::StageSpec,
    text::Texts,
    unused,
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
    /// What it was read from, so that it can be read again.
    pub asked: Overrides,
    /// For all its values, filled in.
    pub budget: Budget,
    pub sources: Sources,
    /// The folder that the pipeline's paths are relative to.
    pub folder: PathBuf,
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
    let text = match overrides.texts.read(path) {
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
    reader.texts.clone_from(&overrides.texts);
    reader.open.extend(path.canonicalize().ok());
    let seed = root.get("seed").cloned();
    reader.file(&root, "the pipeline", "", Given { seed, ..Given::default() });
    let name = reader.text(root.get("name"), "`name`").unwrap_or(stem);
    let description = reader.text(root.get("description"), "`description`").unwrap_or_default();
    let snapshots = reader.snapshots(root.get("snapshot"));
    let Reader { mut sources, mut modules, stages, names, templates, .. } = reader;
    overlay::apply(&mut modules, overrides, &mut sources, mistakes);
    for (at, problem) in unused::parts(&modules, &names, &templates) {
        mistakes.warn(&sources, at, problem);
    }
    for (at, problem) in unused::params(&modules, &sources) {
        mistakes.warn(&sources, at, problem);
    }
    let asked = Overrides { texts: texts_of(&sources), ..overrides.clone() };
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
        asked,
        budget,
        sources,
        folder,
    })
}

/// All files that were read. What stands on the command line is no file.
fn texts_of(sources: &Sources) -> Texts {
    let mut texts = Texts::default();
    for source in sources.iter().filter(|source| !source.name.starts_with("--")) {
        texts.insert(Path::new(&source.name), &source.text);
    }
    texts
}
