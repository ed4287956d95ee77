//! Where something was written.

use std::{path::PathBuf, sync::Arc};

/// A text that values come from: the pipeline, a parameter file, or one `--set`.
#[derive(Debug, Clone)]
pub struct SourceText {
    pub name: String,
    pub text: Arc<str>,
    /// What relative paths in it are relative to.
    pub base: PathBuf,
    /// Named on the command line: its paths may lead anywhere.
    pub trusted: bool,
    /// The [`Module`](super::Module) whose parameters, environment and stages it names.
    pub module: usize,
}

impl SourceText {
    /// The base in words.
    pub fn base_in_words(&self) -> String {
        match self.name.as_str() {
            "--set" => "the folder you are in".to_owned(),
            name if self.trusted || self.module > 0 => format!("the folder of `{name}`"),
            _ => "the pipeline's folder".to_owned(),
        }
    }
}

/// All texts of one pipeline; the first is the pipeline itself.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<SourceText>);

impl Sources {
    pub fn add(&mut self, source: SourceText) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    /// Shows another text of the same length and places for a source: what was typed.
    pub(super) fn rename_text(&mut self, source: usize, text: &str) {
        self.0[source].text = Arc::from(text);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SourceText> {
        self.0.iter()
    }

    pub fn get(&self, at: At) -> &SourceText {
        &self.0[at.source]
    }
}

/// A place in one of the [`Sources`], in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct At {
    pub source: usize,
    pub start: usize,
    pub end: usize,
}
