//! What a row is: the columns of its format, and whatever else its file had.
//!
//! Columns that no stage knows travel along untouched: a verifier may need the answer, a person the source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{Object, kind};

/// No honest row is longer; a file without line ends must not fill the memory.
pub(crate) const MOST_ROW_BYTES: u64 = 64 << 20;

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Plain text, to learn the language from: `text`.
    Text,
    /// Prompts alone, to be answered: `prompt`.
    Prompt,
    /// Prompts with the reply to imitate: `prompt`, `completion`.
    PromptCompletion,
    /// Prompts with a better and a worse reply: `prompt`, `chosen`, `rejected`.
    Preference,
}

impl Format {
    /// The columns that every row of this format has.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["text"],
            Self::Prompt => &["prompt"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Preference => &["prompt", "chosen", "rejected"],
        }
    }
}

/// One row: the columns of its format, then the others in the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) fields: Fields,
    #[serde(flatten)]
    pub(crate) extra: Object,
}

/// The columns that a format has; the variant is the format.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Fields {
    Text(TextRow),
    Prompt(PromptRow),
    PromptCompletion(CompletionRow),
    Preference(PreferenceRow),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TextRow {
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PromptRow {
    pub(crate) prompt: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CompletionRow {
    pub(crate) prompt: String,
    pub(crate) completion: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PreferenceRow {
    pub(crate) prompt: String,
    pub(crate) chosen: String,
    pub(crate) rejected: String,
    /// By how much the chosen one is better, where somebody measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<f64>,
}

impl From<Fields> for Row {
    fn from(fields: Fields) -> Self {
        Self { fields, extra: Object::new() }
    }
}

impl Row {
    /// Takes the columns of `format` out of a row as it stands in a file; the rest is extra.
    pub(crate) fn of(format: Format, mut columns: Object) -> Result<Self, String> {
        let mut text = |name: &str| match columns.shift_remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("`{name}` is {}, not a string", kind(&other))),
            None => Err(format!("there is no column `{name}`")),
        };
        let fields = match format {
            Format::Text => Fields::Text(TextRow { text: text("text")? }),
            Format::Prompt => Fields::Prompt(PromptRow { prompt: text("prompt")? }),
            Format::PromptCompletion => {
                let (prompt, completion) = (text("prompt")?, text("completion")?);
                Fields::PromptCompletion(CompletionRow { prompt, completion })
            }
            Format::Preference => {
                let (prompt, chosen) = (text("prompt")?, text("chosen")?);
                let rejected = text("rejected")?;
                let margin = columns.shift_remove("margin");
                let margin = margin.map(|margin| {
                    margin.as_f64().ok_or_else(|| {
                        format!("`margin` is {}, not a finite number", kind(&margin))
                    })
                });
                let margin = margin.transpose()?;
                Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin })
            }
        };
        Ok(Self { fields, extra: columns })
    }

    pub(crate) fn format(&self) -> Format {
        match &self.fields {
            Fields::Text(_) => Format::Text,
            Fields::Prompt(_) => Format::Prompt,
            Fields::PromptCompletion(_) => Format::PromptCompletion,
            Fields::Preference(_) => Format::Preference,
        }
    }

    /// The names of all its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let margin = match &self.fields {
            Fields::Preference(row) => row.margin.map(|_| "margin"),
            _ => None,
        };
        let own = self.format().columns().iter().copied();
        own.chain(margin).chain(self.extra.keys().map(String::as_str))
    }

    /// The prompt; of plain text all of it.
    pub(crate) fn prompt(&self) -> &str {
        match &self.fields {
            Fields::Text(row) => &row.text,
            Fields::Prompt(row) => &row.prompt,
            Fields::PromptCompletion(row) => &row.prompt,
            Fields::Preference(row) => &row.prompt,
        }
    }

    /// The reply to imitate: of a preference the chosen one.
    pub(crate) fn completion(&self) -> Option<&str> {
        match &self.fields {
            Fields::Text(_) | Fields::Prompt(_) => None,
            Fields::PromptCompletion(row) => Some(&row.completion),
            Fields::Preference(row) => Some(&row.chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::json::object;

    #[test]
    fn what_a_format_does_not_know_stays_with_the_row_behind_its_own_columns() {
        let text = br#"{"id":7,"rejected":"c","chosen":"b","tags":["x",null],"prompt":"a"}"#;
        let row = Row::of(Format::Preference, object(text).unwrap().unwrap()).unwrap();
        let columns: Vec<_> = row.columns().collect();
        assert_eq!(columns, ["prompt", "chosen", "rejected", "id", "tags"]);
        let json = serde_json::to_string(&row).unwrap();
        insta::assert_snapshot!(json, @r#"{"prompt":"a","chosen":"b","rejected":"c","id":7,"tags":["x",null]}"#);
    }
}
