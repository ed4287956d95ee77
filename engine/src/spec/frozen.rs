//! Writing the key `frozen` into a pipeline's text, with all else as it is.

use super::{node::Entry, pipeline::Pipeline, stage::StageSpec};

const KEY: &str = "frozen";

impl StageSpec {
    /// What stands there now.
    pub fn frozen(&self) -> Option<&Entry> {
        self.conduct.iter().find(|entry| entry.key == KEY)
    }
}

impl Pipeline {
    /// The text of the file that `stage` stands in, with `value` as what it is frozen to, or with nothing. `None` where
    /// that is for a person to write: behind an anchor, or where the stage is an alias.
    pub fn text_with_frozen(&self, stage: &StageSpec, value: Option<&str>) -> Option<String> {
        let text = &self.sources.get(stage.at).text;
        match (stage.frozen(), value) {
            (Some(entry), Some(value)) => {
                Some([&text[..entry.value.at.start], value, &text[entry.value.at.end..]].concat())
            }
            (Some(entry), None) => Some(without(text, entry)),
            (None, Some(value)) => inserted(text, stage.at.end, value),
            (None, None) => Some(text.to_string()),
        }
    }
}

/// Takes the entry out: its line, where it has one to itself.
fn without(text: &str, entry: &Entry) -> String {
    let (start, end) = (entry.at.start, entry.value.at.end);
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let next = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
    if text[line..start].trim().is_empty() && text[end..next].trim().is_empty() {
        return [&text[..line], &text[next..]].concat();
    }
    let behind = text[end..].trim_start_matches([' ', ',']);
    [&text[..start], behind].concat()
}

/// Puts the key first in what stands behind the stage's name.
fn inserted(text: &str, name_end: usize, value: &str) -> Option<String> {
    let colon = name_end + text[name_end..].find(':')? + 1;
    let body = colon + (text[colon..].len() - text[colon..].trim_start_matches(' ').len());
    if text[body..].starts_with('{') {
        return Some(format!("{} {KEY}: {value},{}", &text[..=body], &text[body + 1..]));
    }
    let rest = text[body..].lines().next().unwrap_or_default();
    if !(rest.trim().is_empty() || rest.trim_start().starts_with('#')) {
        return None;
    }
    let mut at = body + rest.len() + 1;
    loop {
        let line = text.get(at..)?.lines().next()?;
        if !(line.trim().is_empty() || line.trim_start().starts_with('#')) {
            let indent = &line[..line.len() - line.trim_start().len()];
            return Some(format!("{}{indent}{KEY}: {value}\n{}", &text[..at], &text[at..]));
        }
        at += line.len() + 1;
    }
}
