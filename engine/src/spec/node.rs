//! A value that knows where it was written.

use serde_json::{Map, Number, Value};

use super::place::At;

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
