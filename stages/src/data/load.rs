//! `data.load`: rows from a file of the user's, checked one by one.
//!
//! Nothing is guessed and nothing is dropped: a row that is not what the format says is reported
//! with its place and what to do, several at once.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use gradus_protocol::catalog::{Port, PortType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{
        self,
        dataset::{CompletionRow, Format, PreferenceRow, PromptRow, Row, TextRow, write_all},
    },
    context::{Context, UserFile},
    data::{
        read::{self, Cell, FileFormat, Record},
        split::split,
    },
    error::StageError,
    port::{Out, ports},
    prepare::rows::implicit_prompt,
    stage::Stage,
};

/// Load rows from a file.
pub(crate) struct Load;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The file, relative to the pipeline's folder.
    path: UserFile,
    /// What a row holds, which decides the columns that are read.
    format: Format,
    /// A second file, with rows to test on.
    #[serde(default)]
    test_path: Option<UserFile>,
    /// Without a second file, how much of the first to test on, whole prompts at a time: below 1 a
    /// share of the rows, from 1 on a number of rows.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    test: f64,
    /// How the file is written; left out, its extension tells.
    #[serde(default)]
    file_format: Option<FileFormat>,
    /// The names of the columns where they differ from gradus' own.
    #[serde(default)]
    columns: Columns,
    /// Read at most this many rows of a file, from the start.
    #[serde(default)]
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    /// Mistakes to report before giving up; more show more of what is wrong at once.
    #[serde(default = "default_max_errors")]
    #[schemars(range(min = 1))]
    max_errors: usize,
}

fn default_max_errors() -> usize {
    10
}

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

ports!(Inputs {});
ports!(Outputs {
    /// The rows to learn from, in the order of the file.
    train: Out<artifact::Rows>,
    /// The rows to test on: none, unless `test_path` or `test` says otherwise.
    test: Out<artifact::Rows>,
});

impl Stage for Load {
    const KIND: &'static str = "data.load";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Load rows from a JSON Lines, CSV or Parquet file.

A preference without a `prompt` column has it as the common beginning of `chosen` and `rejected`.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn output_types(outputs: &mut [Port]) {
        let types = [
            ("text", "text"),
            ("prompt", "prompts"),
            ("prompt_completion", "completions"),
            ("preference", "preferences"),
        ];
        let types: Vec<_> = types.map(|(format, name)| (format.to_owned(), name.to_owned())).into();
        for output in outputs {
            let (parameter, types) = ("format".to_owned(), types.clone());
            output.port_type = PortType::ByParameter { parameter, types };
        }
    }

    fn run(
        params: Params,
        _: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let rows = load(&params, &params.path.0)?;
        let (train, test) = match &params.test_path {
            Some(path) => (rows, load(&params, &path.0)?),
            None => split(rows, params.test, context.stream("split"))?,
        };
        write_all(&outputs.train.path, params.format, &train)?;
        write_all(&outputs.test.path, params.format, &test)?;
        context.summary("train_rows", train.len() as f64);
        context.summary("test_rows", test.len() as f64);
        if params.test_path.is_some() {
            context.summary("test_prompts_in_train", shared_prompts(&train, &test) as f64);
        }
        Ok(())
    }
}

/// How many prompts of `test` were seen in training: numbers measured on those flatter.
fn shared_prompts(train: &[Row], test: &[Row]) -> usize {
    let train: HashSet<&str> = train.iter().map(Row::prompt).collect();
    let test: HashSet<&str> = test.iter().map(Row::prompt).collect();
    train.intersection(&test).count()
}

/// Reads and checks all rows of a file.
fn load(params: &Params, path: &Path) -> Result<Vec<Row>, StageError> {
    let records = read::open(path, params.file_format)?;
    let (mut rows, mut mistakes) = (Vec::new(), Vec::new());
    let mut wanted = None;
    let limit =
        params.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for record in records.take(limit) {
        let row = record.and_then(|record| {
            let wanted = wanted.get_or_insert_with(|| Wanted::new(params, &record));
            wanted.row(&record).map_err(|why| (record.place, why))
        });
        match row {
            Ok(row) => rows.push(row),
            Err((place, why)) => mistakes.push(format!("row {place}: {why}")),
        }
        if mistakes.len() >= params.max_errors.max(1) {
            mistakes.push(format!("and perhaps more: `max_errors` is {}", params.max_errors));
            break;
        }
    }
    if mistakes.is_empty() && rows.is_empty() {
        mistakes.push("there are no rows in it".to_owned());
    }
    if mistakes.is_empty() {
        return Ok(rows);
    }
    Err(StageError::refused(format!("`{}`: {}", path.display(), mistakes.join("\n  "))))
}

/// What is read from each record.
struct Wanted {
    format: Format,
    names: BTreeMap<&'static str, String>,
    implicit: bool,
    margin: bool,
}

impl Wanted {
    /// The first record decides whether there are prompts and margins at all.
    fn new(params: &Params, first: &Record) -> Self {
        let columns = &params.columns;
        let given = [
            ("text", &columns.text),
            ("prompt", &columns.prompt),
            ("completion", &columns.completion),
            ("chosen", &columns.chosen),
            ("rejected", &columns.rejected),
            ("margin", &columns.margin),
        ];
        let has =
            |own: &str, name: &Option<String>| name.is_some() || first.cells.contains_key(own);
        let names = given.map(|(own, name)| (own, name.clone().unwrap_or_else(|| own.to_owned())));
        Self {
            format: params.format,
            names: names.into(),
            implicit: !has("prompt", &columns.prompt),
            margin: has("margin", &columns.margin),
        }
    }

    fn row(&self, record: &Record) -> Result<Row, String> {
        Ok(match self.format {
            Format::Text => Row::Text(TextRow { text: self.text(record, "text")? }),
            Format::Prompt => Row::Prompt(PromptRow { prompt: self.text(record, "prompt")? }),
            Format::PromptCompletion => Row::PromptCompletion(CompletionRow {
                prompt: self.text(record, "prompt")?,
                completion: self.text(record, "completion")?,
            }),
            Format::Preference => Row::Preference(self.preference(record)?),
        })
    }

    fn preference(&self, record: &Record) -> Result<PreferenceRow, String> {
        let chosen = self.text(record, "chosen")?;
        let rejected = self.text(record, "rejected")?;
        let margin = if self.margin { Some(self.number(record, "margin")?) } else { None };
        if !self.implicit {
            let prompt = self.text(record, "prompt")?;
            return Ok(PreferenceRow { prompt, chosen, rejected, margin });
        }
        let (prompt, chosen, rejected) = implicit_prompt(&chosen, &rejected);
        if prompt.is_empty() {
            return Err("`chosen` and `rejected` have no beginning in common to be the prompt: \
                 add a column `prompt`, or name it under `columns`"
                .to_owned());
        }
        let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
        Ok(PreferenceRow { prompt, chosen, rejected, margin })
    }

    fn text(&self, record: &Record, column: &str) -> Result<String, String> {
        let name = &self.names[column];
        match self.cell(record, column)? {
            Cell::Text(text) if text.is_empty() => {
                Err(format!("`{name}` is empty: fill it in, or take the row out"))
            }
            Cell::Text(text) => Ok(text.clone()),
            Cell::List => Err(format!(
                "`{name}` is a list, perhaps of messages, and gradus does not read conversations \
                 yet: write each as one string"
            )),
            other => Err(format!("`{name}` is {}, not a string", other.kind())),
        }
    }

    fn number(&self, record: &Record, column: &str) -> Result<f64, String> {
        let name = &self.names[column];
        let cell = self.cell(record, column)?;
        let number = match cell {
            Cell::Number(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| format!("`{name}` is {}, not a finite number", cell.kind()))
    }

    fn cell<'a>(&self, record: &'a Record, column: &str) -> Result<&'a Cell, String> {
        let name = &self.names[column];
        record.cells.get(name).ok_or_else(|| {
            let there = record.cells.keys();
            let near = there
                .clone()
                .map(|other| (strsim::jaro_winkler(name, other), other))
                .filter(|(likeness, _)| *likeness > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let remedy = if let Some((_, near)) = near {
                format!("did you mean `{near}`? then say `columns: {{ {column}: {near} }}`")
            } else {
                let there: Vec<_> = there.take(20).map(|name| format!("`{name}`")).collect();
                format!("it has {}: name the right one under `columns`", there.join(", "))
            };
            format!("there is no column `{name}`; {remedy}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, content: &[u8], params: &str) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut params: serde_json::Value = serde_json::from_str(params).unwrap();
        params["path"] = path.to_str().into();
        let params: Params = serde_json::from_value(params).unwrap();
        let strip = |error: StageError| {
            error.to_string().replace(&format!("{}/", folder.path().display()), "")
        };
        load(&params, &path).map_err(strip)
    }

    fn mistakes(name: &str, content: &str, params: &str) -> String {
        loaded(name, content.as_bytes(), params).unwrap_err()
    }

    const PREFERENCE: &str = r#"{"format": "preference"}"#;
    const TEXT: &str = r#"{"format": "text"}"#;

    fn pair(prompt: &str, chosen: &str, rejected: &str, margin: Option<f64>) -> Row {
        let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
        Row::Preference(PreferenceRow { prompt, chosen, rejected, margin })
    }

    #[test]
    fn prompts_are_read_where_there_are_any_and_found_where_there_are_none() {
        let explicit = "{\"prompt\":\"a\",\"chosen\":\" b\",\"rejected\":\" c\",\"margin\":0.5}\n";
        let rows = loaded("a.jsonl", explicit.as_bytes(), PREFERENCE).unwrap();
        assert_eq!(rows, [pair("a", " b", " c", Some(0.5))]);
        let implicit = "{\"chosen\":\"a b\",\"rejected\":\"a c\"}\n\n";
        let rows = loaded("a.jsonl", implicit.as_bytes(), PREFERENCE).unwrap();
        assert_eq!(rows, [pair("a", " b", " c", None)]);
    }

    #[test]
    fn prompts_that_are_on_both_sides_are_counted_once() {
        let rows = ["a", "b", "b"].map(|prompt| pair(prompt, " x", " y", None));
        assert_eq!(shared_prompts(&rows, &rows[1..]), 1);
    }

    #[test]
    fn csv_is_read_with_quotes_and_line_ends_inside() {
        let csv = "\u{feff}question,good,bad\n\"a, b\",\"c\nd\",e\n";
        let params = r#"{"format": "preference",
            "columns": {"prompt": "question", "chosen": "good", "rejected": "bad"}}"#;
        let rows = loaded("a.csv", csv.as_bytes(), params).unwrap();
        assert_eq!(rows, [pair("a, b", "c\nd", "e", None)]);
    }

    #[test]
    fn every_mistake_has_its_row_and_a_remedy() {
        let content = "{\"text\":\"a\"}\n{\"txt\":\"b\"}\nnope\n{\"text\":1}\n{\"text\":\"\"}\n\
            {\"text\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n[1]\n{\"text\":null}\n";
        insta::assert_snapshot!(mistakes("a.jsonl", content, TEXT), @r#"
        `a.jsonl`: row 2: there is no column `text`; did you mean `txt`? then say `columns: { text: txt }`
          row 3: not JSON (expected ident at column 2)
          row 4: `text` is a number, not a string
          row 5: `text` is empty: fill it in, or take the row out
          row 6: `text` is a list, perhaps of messages, and gradus does not read conversations yet: write each as one string
          row 7: not a JSON object: each line is one, like `{"text": "…"}`
          row 8: `text` is null, not a string
        "#);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused() {
        let error = loaded("a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n", TEXT);
        insta::assert_snapshot!(error.unwrap_err(), @"`a.jsonl`: row 2: not UTF-8 text (invalid utf-8 sequence of 1 bytes from index 9): convert the file to UTF-8");
        let error = loaded("a.csv", b"text\n\xff\n", TEXT);
        insta::assert_snapshot!(error.unwrap_err(), @"`a.csv`: row 2: not UTF-8 text (invalid utf-8: invalid UTF-8 in field 0 near byte index 0): convert the file to UTF-8");
    }

    #[test]
    fn an_empty_file_a_strange_one_and_a_lost_one_are_refused() {
        insta::assert_snapshot!(mistakes("a.jsonl", "", TEXT), @"`a.jsonl`: there are no rows in it");
        insta::assert_snapshot!(mistakes("a.txt", "x", TEXT), @"`a.txt`: its name does not tell how it is written: say `file_format: jsonl`, `csv` or `parquet`");
        insta::assert_snapshot!(mistakes("a.parquet", "x", TEXT), @"`a.parquet`: not a sound Parquet file (EOF: Parquet file too small. Size is 1 but need 8)");
        insta::assert_snapshot!(mistakes("a.csv", "text,b\nx\n", TEXT), @"`a.csv`: row 2: it has 1 values, and there are 2 columns: put values that hold commas in quotes");
    }

    #[test]
    fn mistakes_are_counted_out_at_the_limit_and_rows_too() {
        let content = "{}\n".repeat(5);
        let error = mistakes("a.jsonl", &content, r#"{"format": "text", "max_errors": 2}"#);
        assert_eq!(error.lines().count(), 3, "{error}");
        let content = "{\"text\":\"a\"}\n".repeat(5);
        let rows = loaded("a.jsonl", content.as_bytes(), r#"{"format": "text", "limit": 2}"#);
        assert_eq!(rows.unwrap().len(), 2);
    }

    #[test]
    fn oracle_parquet_holds_the_rows_of_its_jsonl() {
        let Some(folder) = crate::oracles::folder() else { return };
        let read = |name: &str| std::fs::read(folder.join("data/rows").join(name)).unwrap();
        // Rows that are refused must be refused alike.
        let rows = |file: &str| {
            loaded(file, &read(file), PREFERENCE).map_err(|why| why.replace(file, "the file"))
        };
        assert_eq!(rows("preference.parquet"), rows("preference.jsonl"));
        let chats = loaded(
            "a.parquet",
            &read("messages.parquet"),
            r#"{"format": "text", "columns": {"text": "messages"}}"#,
        );
        assert!(chats.unwrap_err().contains("conversations"));
    }
}
