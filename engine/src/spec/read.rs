//! Text to [`Node`]s: the outline says where things stand, `serde_yaml` says what they are.

use serde_json::Number;
use serde_yaml::Value;

use super::{
    bounds::{Outline, Parts, outline},
    mistake::{Mistakes, Problem},
    node::{Data, Entry, Node},
    place::{At, Sources},
};

const TOO_LARGE: &str = "whole numbers have 64 bits here: in quotes this is text, and with `.0` behind it it is rounded";

/// Reads a whole source; an empty one is an empty map. What is wrong goes to `mistakes`.
pub(super) fn read(sources: &Sources, source: usize, mistakes: &mut Mistakes) -> Option<Node> {
    let start = At { source, start: 0, end: 0 };
    let mut outline = match outline(sources, source) {
        Ok(Some(outline)) => outline,
        Ok(None) => return Some(Node { data: Data::Map(Vec::new()), at: start }),
        Err(refusal) => {
            let (at, problem) = *refusal;
            mistakes.add(sources, at, problem);
            return None;
        }
    };
    // `serde_yaml` refuses duplicates without saying where they are, so they are said and taken out here.
    let mut text = sources.get(start).text.to_string();
    remove_duplicates(sources, &mut outline, &mut text, mistakes);
    let value = match serde_yaml::from_str::<Value>(&text) {
        Ok(value) => value,
        Err(error) => {
            let start = error.location().map_or(0, |location| location.index());
            let at = At { source, start, end: start + 1 };
            let words = error.to_string();
            // Its own words are about types of Rust.
            let is_large = words.contains("128, expected any YAML value");
            let problem = if is_large {
                Problem::Unsupported(TOO_LARGE)
            } else {
                Problem::Syntax { words, help: None }
            };
            mistakes.add(sources, at, problem);
            return None;
        }
    };
    join(sources, &value, &outline, mistakes)
}

/// Takes every second entry of one key out of the outline, and blanks it in the text.
fn remove_duplicates(
    sources: &Sources,
    outline: &mut Outline,
    text: &mut String,
    mistakes: &mut Mistakes,
) {
    match &mut outline.parts {
        Parts::Scalar(_) => {}
        Parts::List(items) => {
            for item in items {
                remove_duplicates(sources, item, text, mistakes);
            }
        }
        Parts::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            entries.retain_mut(|(key, value)| {
                if let Parts::Scalar(name) = &key.parts
                    && !seen.insert(name.clone())
                {
                    mistakes.add(sources, key.at, Problem::DuplicateKey(name.clone()));
                    let entry = key.at.start..value.at.end.max(key.at.end);
                    let blank = |c: char| {
                        if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) }
                    };
                    let blanks: String = text[entry.clone()].chars().map(blank).collect();
                    text.replace_range(entry, &blanks);
                    return false;
                }
                remove_duplicates(sources, value, text, mistakes);
                true
            });
        }
    }
}

/// Gives every value its place. Both readers saw the same text, so the two trees have one shape.
fn join(
    sources: &Sources,
    value: &Value,
    outline: &Outline,
    mistakes: &mut Mistakes,
) -> Option<Node> {
    let at = outline.at;
    let data = match (value, &outline.parts) {
        (Value::Null, _) => Data::Null,
        (Value::Bool(it), _) => Data::Boolean(*it),
        (Value::Number(it), _) => match number(it) {
            Some(number) if number.is_f64() && is_whole(sources, at) => {
                return wrong(sources, at, TOO_LARGE, mistakes);
            }
            Some(number) => Data::Number(number),
            None => return wrong(sources, at, "numbers must be finite", mistakes),
        },
        (Value::String(it), _) => Data::Text(it.clone()),
        (Value::Sequence(values), Parts::List(outlines)) if values.len() == outlines.len() => {
            let nodes = values.iter().zip(outlines);
            // All of them, so that every mistake is found.
            let nodes: Vec<_> = nodes.map(|(v, o)| join(sources, v, o, mistakes)).collect();
            Data::List(nodes.into_iter().collect::<Option<_>>()?)
        }
        (Value::Mapping(values), Parts::Map(outlines)) if values.len() == outlines.len() => {
            let mut entries = Vec::new();
            let mut sound = true;
            for ((key, value), (key_outline, value_outline)) in values.iter().zip(outlines) {
                let value = join(sources, value, value_outline, mistakes);
                match (key.as_str(), value) {
                    (Some("<<"), _) => {
                        let what = "merge keys are not supported: use `params` and `${…}`";
                        wrong(sources, key_outline.at, what, mistakes);
                        sound = false;
                    }
                    (Some(key), Some(value)) => {
                        entries.push(Entry { key: key.to_owned(), at: key_outline.at, value });
                    }
                    (None, _) => {
                        wrong(sources, key_outline.at, "keys must be text", mistakes);
                        sound = false;
                    }
                    (_, None) => sound = false,
                }
            }
            if !sound {
                return None;
            }
            Data::Map(entries)
        }
        _ => return wrong(sources, at, "the two YAML readers disagree about this", mistakes),
    };
    Some(Node { data, at })
}

fn wrong(sources: &Sources, at: At, what: &'static str, mistakes: &mut Mistakes) -> Option<Node> {
    mistakes.add(sources, at, Problem::Unsupported(what));
    None
}

/// Whether only digits stand at `at`.
fn is_whole(sources: &Sources, at: At) -> bool {
    let typed = sources.get(at).text.get(at.start..at.end).unwrap_or_default();
    typed.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit())
}

impl Node {
    /// A number, a truth value or nothing as it was typed: `3.10` is no `3.1` to whoever wants text.
    pub fn as_typed(&self, sources: &Sources) -> String {
        let value = self.to_value();
        let text = &sources.get(self.at).text;
        let typed = text.get(self.at.start..self.at.end).map(str::trim);
        // What a reference or an engine's own value stands for is not what stands at its place.
        let typed = typed.filter(|typed| scalar(typed).is_some_and(|read| read == value));
        typed.map_or_else(|| value.to_string(), str::to_owned)
    }
}

/// What a scalar by itself is, unless it is text.
pub(super) fn scalar(text: &str) -> Option<serde_json::Value> {
    match serde_yaml::from_str(text).ok()? {
        Value::Null => Some(serde_json::Value::Null),
        Value::Bool(it) => Some(it.into()),
        Value::Number(it) => number(&it).map(serde_json::Value::Number),
        _ => None,
    }
}

fn number(number: &serde_yaml::Number) -> Option<Number> {
    if let Some(whole) = number.as_i64() {
        return Some(whole.into());
    }
    if let Some(whole) = number.as_u64() {
        return Some(whole.into());
    }
    number.as_f64().and_then(Number::from_f64)
}
