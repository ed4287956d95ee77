//! A value that knows where it was written.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Number, Value};

use super::{mistake::Problem, read};

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

    /// The file that `text`, written at `at`, names. Unless the command line names it, it lies in `folder`.
    pub fn file(&self, text: &str, at: At, folder: &Path) -> Result<PathBuf, Problem> {
        let source = self.get(at);
        let Ok(real) = source.base.join(text).canonicalize() else {
            let (path, relative_to) = (text.to_owned(), source.base_in_words());
            return Err(Problem::MissingFile { path, relative_to });
        };
        match folder.canonicalize() {
            _ if source.trusted => Ok(real),
            Ok(folder) if real.starts_with(&folder) => Ok(real),
            _ => Err(Problem::OutsideFolder(text.to_owned())),
        }
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

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    pub data: Data,
    pub at: At,
}

/// What YAML can say that a pipeline may use: no tags, no numbers that are not finite.
#[derive(Debug, Clone)]
pub enum Data {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, its own place, and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub at: At,
    pub value: Node,
}

impl Node {
    /// A number, a truth value or nothing as it was typed: `3.10` is no `3.1` to whoever wants text.
    pub fn as_typed(&self, sources: &Sources) -> String {
        let value = self.to_value();
        let text = &sources.get(self.at).text;
        let typed = text.get(self.at.start..self.at.end).map(str::trim);
        // What a reference or an engine's own value stands for is not what stands at its place.
        let typed = typed.filter(|typed| read::scalar(typed).is_some_and(|read| read == value));
        typed.map_or_else(|| value.to_string(), str::to_owned)
    }

    /// The items of a list; of anything else none.
    pub fn as_list(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The same value without places.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Boolean(it) => Value::Bool(*it),
            Data::Number(it) => Value::Number(it.clone()),
            Data::Text(it) => Value::String(it.clone()),
            Data::List(items) => items.iter().map(Node::to_value).collect(),
            Data::Map(entries) => Value::Object(
                entries.iter().map(|e| (e.key.clone(), e.value.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Whether both say the same; places do not count, and 1 is 1.0.
    pub fn equals(&self, other: &Self) -> bool {
        match (&self.data, &other.data) {
            (Data::Null, Data::Null) => true,
            (Data::Boolean(a), Data::Boolean(b)) => a == b,
            (Data::Number(a), Data::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Data::Text(a), Data::Text(b)) => a == b,
            (Data::List(a), Data::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Data::Map(a), Data::Map(b)) => {
                let has = |entry: &Entry| {
                    other.get(&entry.key).is_some_and(|value| entry.value.equals(value))
                };
                a.len() == b.len() && a.iter().all(has)
            }
            _ => false,
        }
    }

    /// Roughly the bytes of memory that a copy takes.
    pub(crate) fn weight(&self) -> usize {
        let below: usize = match &self.data {
            Data::Text(text) => text.len(),
            Data::List(items) => items.iter().map(Self::weight).sum(),
            Data::Map(entries) => {
                entries.iter().map(|entry| entry.key.len() + entry.value.weight()).sum()
            }
            _ => 0,
        };
        below + size_of::<Entry>()
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// A scalar as it is written, anything else by its sort.
    pub fn described(&self) -> String {
        match &self.data {
            Data::List(_) | Data::Map(_) | Data::Null => self.sort().to_owned(),
            Data::Text(text) => format!("the text `{text}`"),
            _ => format!("`{}`", self.to_value()),
        }
    }

    /// What the value is, as a person would call it.
    pub fn sort(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Boolean(_) => "true or false",
            Data::Number(number) if number.is_f64() => "a number",
            Data::Number(_) => "a whole number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}
