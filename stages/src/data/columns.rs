//! What is read from a record: the columns of a format, and the others, which stay with the row.
//!
//! Every record is judged by itself and must have the columns of the first: where one row lacks a prompt
//! or a margin that others have, any reading of it would be a guess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    implicit,
    read::{Cell, Record},
    verdict::{Better, Verdict},
};
use crate::artifact::{
    dataset::{CompletionRow, Fields, Format, PreferenceRow, PromptRow, Row, TextRow},
    json::Object,
};

/// For each column its name in the file.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Columns {
    /// The column with plain text.
    text: Option<String>,
    /// The column with the prompt.
    prompt: Option<String>,
    /// The column with the reply to imitate.
    completion: Option<String>,
    /// The column with the better reply.
    chosen: Option<String>,
    /// The column with the worse reply.
    rejected: Option<String>,
    /// The column that says by how much the chosen reply is better; read only when named here or there.
    margin: Option<String>,
}

/// What is read from each record of a file.
pub(crate) struct Wanted<'a> {
    format: Format,
    columns: &'a Columns,
    leave_out: &'a [String],
    prompt_end: Option<&'a str>,
    verdict: Option<&'a Verdict>,
    first: Option<Shape>,
}

/// The columns of the first row.
struct Shape {
    place: u64,
    names: Vec<String>,
}

type Cells = Vec<(String, Cell)>;

impl<'a> Wanted<'a> {
    /// Checks that what is said about columns can be meant for rows of `format`.
    pub(crate) fn new(
        format: Format,
        columns: &'a Columns,
        leave_out: &'a [String],
        prompt_end: Option<&'a str>,
        verdict: Option<&'a Verdict>,
    ) -> Result<Self, String> {
        let own = own(format);
        let given: Vec<_> = columns.given().collect();
        if let Some((name, _)) = given.iter().find(|(name, _)| !own.contains(name)) {
            let own = own.join("`, `");
            return Err(format!("`columns` names `{name}`, and rows of this format have `{own}`"));
        }
        if prompt_end.is_some() && format != Format::Preference {
            return Err("`prompt_end` is for preferences: leave it out".to_owned());
        }
        if prompt_end == Some("") {
            return Err("`prompt_end` is empty: leave it out".to_owned());
        }
        if let Some(verdict) = verdict {
            if format != Format::Preference {
                return Err("`verdict` is for preferences: leave it out".to_owned());
            }
            if let Some((name, _)) = given.iter().find(|it| ["chosen", "rejected"].contains(&it.0))
            {
                return Err(format!(
                    "`columns` names `{name}`, and `verdict` says which reply that is: leave one of them out"
                ));
            }
            verdict.check()?;
        }
        let names: Vec<_> = own.iter().map(|own| columns.name(own)).collect();
        let twice = given.iter().find(|it| names.iter().filter(|name| **name == it.1).count() > 1);
        if let Some((own, name)) = twice {
            return Err(format!(
                "`columns` has `{own}: {name}`, and another column is `{name}` too"
            ));
        }
        Ok(Self { format, columns, leave_out, prompt_end, verdict, first: None })
    }

    /// Says whether the rows so far have as their prompt whatever their two texts have in common.
    pub(crate) fn guesses_prompts(&self) -> bool {
        let prompt = self.columns.name("prompt");
        self.format == Format::Preference
            && self.prompt_end.is_none()
            && self.first.as_ref().is_some_and(|it| it.names.iter().all(|name| name != prompt))
    }

    /// The row in a record, or why it is none; nothing of two replies of which neither is better.
    pub(crate) fn row(&mut self, record: Record) -> Result<Option<Row>, String> {
        let mut cells = record.cells;
        cells.retain(|(name, _)| !self.leave_out.contains(name));
        if let Some(first) = &self.first {
            first.agrees(&cells)?;
        }
        let names = cells.iter().map(|(name, _)| name.clone()).collect();
        let fields = self.fields(&mut cells)?;
        let extra = self.extra(cells)?;
        self.first.get_or_insert(Shape { place: record.place, names });
        Ok(fields.map(|fields| Row { fields, extra }))
    }

    fn fields(&self, cells: &mut Cells) -> Result<Option<Fields>, String> {
        let mut text = |own| self.text(own, cells);
        Ok(Some(match self.format {
            Format::Text => Fields::Text(TextRow { text: text("text")? }),
            Format::Prompt => Fields::Prompt(PromptRow { prompt: text("prompt")? }),
            Format::PromptCompletion => {
                let (prompt, completion) = (text("prompt")?, text("completion")?);
                Fields::PromptCompletion(CompletionRow { prompt, completion })
            }
            Format::Preference => match self.preference(cells)? {
                Some(row) => Fields::Preference(row),
                None => return Ok(None),
            },
        }))
    }

    fn preference(&self, cells: &mut Cells) -> Result<Option<PreferenceRow>, String> {
        let has = |own: &str, given: &Option<String>, cells: &Cells| {
            given.is_some() || cells.iter().any(|(name, _)| name == own)
        };
        let explicit = has("prompt", &self.columns.prompt, cells);
        let margin = has("margin", &self.columns.margin, cells);
        let prompt = explicit.then(|| self.text("prompt", cells)).transpose()?;
        let Some([chosen, rejected]) = self.sides(cells)? else { return Ok(None) };
        let margin = margin.then(|| self.number("margin", cells)).transpose()?;
        let Some(prompt) = prompt else {
            let parts = implicit::parts(&chosen, &rejected, self.prompt_end)?;
            let [prompt, chosen, rejected] = parts.map(str::to_owned);
            return Ok(Some(PreferenceRow { prompt, chosen, rejected, margin }));
        };
        if self.prompt_end.is_some() {
            return Err("`prompt_end` is for rows without a prompt, and this one has it".to_owned());
        }
        Ok(Some(PreferenceRow { prompt, chosen, rejected, margin }))
    }

    /// The better and the worse reply, unless neither is better.
    fn sides(&self, cells: &mut Cells) -> Result<Option<[String; 2]>, String> {
        let Some(verdict) = self.verdict else {
            return Ok(Some([self.text("chosen", cells)?, self.text("rejected", cells)?]));
        };
        let [first, second] = &verdict.replies;
        let first = text_of(first, named(first, "verdict: { replies }", cells)?)?;
        let second = text_of(second, named(second, "verdict: { replies }", cells)?)?;
        let better = verdict.of(&named(&verdict.column, "verdict: { column }", cells)?)?;
        Ok(match better {
            Better::First => Some([first, second]),
            Better::Second => Some([second, first]),
            Better::Neither => None,
        })
    }

    fn text(&self, own: &str, cells: &mut Cells) -> Result<String, String> {
        text_of(self.columns.name(own), self.take(own, cells)?)
    }

    fn number(&self, own: &str, cells: &mut Cells) -> Result<f64, String> {
        let cell = self.take(own, cells)?;
        let number = match &cell {
            Cell::Value(Value::Number(number)) => number.as_f64(),
            Cell::Value(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let finite = number.filter(|number: &f64| number.is_finite());
        let name = self.columns.name(own);
        finite.ok_or_else(|| format!("`{name}` is {}, not a finite number", cell.kind()))
    }

    /// Takes a column of the format out of the record.
    fn take(&self, own: &str, cells: &mut Cells) -> Result<Cell, String> {
        let wanted = self.columns.name(own);
        if let Some(cell) = taken(wanted, cells) {
            return Ok(cell);
        }
        let near = cells
            .iter()
            .map(|(other, _)| (strsim::jaro_winkler(wanted, other), other))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let remedy = if let Some((_, near)) = near {
            format!("did you mean `{near}`? then say `columns: {{ {own}: {near} }}`")
        } else {
            let there: Vec<_> = cells.iter().take(20).map(|(it, _)| format!("`{it}`")).collect();
            match there.as_slice() {
                [] => "it has no others than were read".to_owned(),
                there => format!("it has {}: name the right one under `columns`", there.join(", ")),
            }
        };
        Err(format!("there is no column `{wanted}`; {remedy}"))
    }

    /// What the format does not know stays with the row, under its own name.
    fn extra(&self, cells: Cells) -> Result<Object, String> {
        let mut extra = Object::new();
        for (name, cell) in cells {
            if own(self.format).contains(&name.as_str()) {
                let other = self.columns.name(&name);
                return Err(format!(
                    "there are a `{name}` and a `{other}`, which `columns` takes for it: leave one \
                     out under `leave_out`"
                ));
            }
            let Cell::Value(value) = cell else {
                return Err(format!(
                    "`{name}` is {}, which no row can keep: leave it out with `leave_out: [{name}]`",
                    cell.kind()
                ));
            };
            extra.insert(name, value);
        }
        Ok(extra)
    }
}

impl Shape {
    fn agrees(&self, cells: &Cells) -> Result<(), String> {
        let list = |names: Vec<&String>| {
            let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let here = |name: &String| cells.iter().any(|(it, _)| it == name);
        let gone = list(self.names.iter().filter(|name| !here(name)).collect());
        let there = |name: &String| self.names.contains(name);
        let new = list(cells.iter().map(|(name, _)| name).filter(|name| !there(name)).collect());
        let place = self.place;
        let difference = match (gone, new) {
            (None, None) => return Ok(()),
            (Some(gone), None) => format!("it has no {gone}, and row {place} has"),
            (None, Some(new)) => format!("it has {new}, and row {place} has not"),
            (Some(gone), Some(new)) => format!("it has {new}, where row {place} has {gone}"),
        };
        Err(format!(
            "{difference}: give all rows the same columns, or leave some out by `leave_out`"
        ))
    }
}

fn text_of(name: &str, cell: Cell) -> Result<String, String> {
    match cell {
        Cell::Value(Value::String(text)) if text.is_empty() => {
            Err(format!("`{name}` is empty: fill it in, or take the row out"))
        }
        Cell::Value(Value::String(text)) => Ok(text),
        Cell::Value(Value::Array(_)) => Err(format!(
            "`{name}` is a list, perhaps of messages, and gradus does not read conversations \
             yet: write each as one string"
        )),
        other => Err(format!("`{name}` is {}, not a string", other.kind())),
    }
}

fn taken(name: &str, cells: &mut Cells) -> Option<Cell> {
    let at = cells.iter().position(|(it, _)| it == name)?;
    Some(cells.remove(at).1)
}

/// A column that `key` names.
fn named(name: &str, key: &str, cells: &mut Cells) -> Result<Cell, String> {
    let there: Vec<String> = cells.iter().take(20).map(|(it, _)| format!("`{it}`")).collect();
    taken(name, cells).ok_or_else(|| {
        format!("there is no column `{name}`, which `{key}` names; there are {}", there.join(", "))
    })
}

/// All columns that rows of a format may have.
fn own(format: Format) -> &'static [&'static str] {
    match format {
        Format::Preference => &["prompt", "chosen", "rejected", "margin"],
        format => format.columns(),
    }
}

impl Columns {
    /// Own names with the names that stand for them.
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("text", &self.text),
            ("prompt", &self.prompt),
            ("completion", &self.completion),
            ("chosen", &self.chosen),
            ("rejected", &self.rejected),
            ("margin", &self.margin),
        ];
        all.into_iter().filter_map(|(own, name)| Some((own, name.as_deref()?)))
    }

    fn name<'a>(&'a self, own: &'a str) -> &'a str {
        self.given().find(|(it, _)| *it == own).map_or(own, |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The rows of records that are given as JSON objects.
    fn rows(records: &[Value]) -> Result<Vec<Option<Row>>, String> {
        let verdict: Verdict = serde_json::from_value(
            json!({ "replies": ["a", "b"], "column": "winner", "values": ["a", "b"], "ties": ["tie"] }),
        )
        .unwrap();
        let columns = Columns::default();
        let mut wanted = Wanted::new(Format::Preference, &columns, &[], None, Some(&verdict))?;
        let record = |(place, it): (u64, &Value)| {
            let cells = it.as_object().unwrap().iter();
            let cells = cells.map(|(name, it)| (name.clone(), Cell::Value(it.clone()))).collect();
            wanted.row(Record { place, cells })
        };
        (1..).zip(records).map(record).collect()
    }

    #[test]
    fn two_replies_and_a_verdict_are_a_pair_unless_it_is_a_tie() {
        let row = |winner: &str| json!({ "prompt": "p", "a": " b", "b": " c", "winner": winner });
        let found = rows(&[row("a"), row("tie"), row("b")]).unwrap();
        let pair = |chosen: &str, rejected: &str| {
            let [prompt, chosen, rejected] = ["p", chosen, rejected].map(str::to_owned);
            Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin: None }).into()
        };
        assert_eq!(found, [Some(pair(" b", " c")), None, Some(pair(" c", " b"))]);
        let lost = json!({ "prompt": "p", "a": "b", "reply": "c", "winner": "a" });
        insta::assert_snapshot!(rows(&[lost]).unwrap_err(), @"there is no column `b`, which `verdict: { replies }` names; there are `reply`, `winner`");
    }
}
