//! `data.load`: rows from a file of the user's, checked one by one.
//!
//! Nothing is guessed and nothing is dropped: a row that is not what the format says is reported
//! with its place and what to do, several at once.

use std::path::Path;

use gradus_protocol::{
    Source,
    catalog::{Port, PortType, Rule},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::{Format, Row},
        dataset_folder::write_all,
    },
    context::{Context, UserFile},
    data::{
        columns::{Columns, Wanted},
        groups,
        loaded::Loaded,
        mistakes::Mistakes,
        read::{Cell, DataFile, FileFormat, Record},
        split::{Sides, split},
        verdict::Verdict,
    },
    error::StageError,
    port::{Artifact, Out, ports},
    rules::{param, rule},
    stage::{Given, Stage},
};

/// So many rows tell whether a file is as it was said to be.
const LOOKED_AT: usize = 100;

/// Load rows from a file.
pub(crate) struct Load;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The file, relative to the pipeline's folder; left out where the input `file` has the rows.
    #[serde(default)]
    path: Option<UserFile>,
    /// What a row holds, which decides the columns that are read.
    format: Format,
    /// A second file, with rows to test on.
    #[serde(default)]
    test_path: Option<UserFile>,
    /// Without a second file, how much of the first to test on, whole groups at a time: below 1 a
    /// share of the rows, from 1 on a number of rows.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    test: f64,
    /// Without a second file, the column whose rows with one value stay on one side. Left out, rows stay
    /// together whose prompts begin with one and the same prompt.
    #[serde(default)]
    group: Option<String>,
    /// How the file is written; left out, its extension tells.
    #[serde(default)]
    file_format: Option<FileFormat>,
    /// What stands between the values of a CSV file, `,` by default, or between the documents of a text
    /// file, which is one document by default.
    #[serde(default)]
    separator: Option<String>,
    /// The names of the columns where they differ from gradus' own.
    #[serde(default)]
    columns: Columns,
    /// Columns that do not come along. All others that the format does not know stay with their row.
    #[serde(default)]
    leave_out: Vec<String>,
    /// Where replies begin in preferences without a `prompt`: behind the last of these in what `chosen` and
    /// `rejected` begin with in common, say `"\n\nAssistant:"`. Left out, all that they have in common is the
    /// prompt, which may then end inside a word.
    #[serde(default)]
    prompt_end: Option<String>,
    /// Of preferences that were written as two replies and a verdict: where these stand, and what the verdict holds.
    #[serde(default)]
    verdict: Option<Verdict>,
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

ports!(Inputs {
    /// The file that rows are read from, as another stage or a program made it; instead of `path`.
    file: Option<artifact::File>,
});
ports!(Outputs {
    /// The rows to learn from, in the order of the file.
    train: Out<artifact::Rows>,
    /// The rows to test on: none, unless `test_path` or `test` says otherwise.
    test: Out<artifact::Rows>,
});

impl Stage for Load {
    const KIND: &'static str = "data.load";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Load rows from a JSON Lines, CSV, Parquet or text file.

Every row is checked, and all must have the same columns. Columns that the format does not know stay with \
their row. A preference without a `prompt` column has it as the common beginning of `chosen` and `rejected`.";
    const USES_DEVICE: bool = false;
    const LOOKS: bool = true;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "limit": 2000, "test": 100 })
    }

    fn rules() -> Vec<Rule> {
        vec![
            rule(
                "say where the rows are: name a file in `path`, or give one to the input `file`",
                [param("path").missing(), param("inputs.file").missing()],
            ),
            rule(
                "`path` and the input `file` both say where the rows are: leave one of them out",
                [param("path").given(), param("inputs.file").given()],
            ),
        ]
    }

    fn decided(outputs: &mut [Port]) {
        let types = [
            ("text", "text"),
            ("prompt", "prompts"),
            ("prompt_completion", "completions"),
            ("preference", "preferences"),
        ];
        let types: Vec<_> = types.map(|(format, name)| (format.to_owned(), name.to_owned())).into();
        for output in outputs {
            if output.name == "test" {
                output.empty = Some(rule(
                    "set `test` there, which is 0 by default, or `test_path`; or leave the input out",
                    [param("test").is([0]), param("test_path").missing()],
                ));
            }
            let (parameter, types) = ("format".to_owned(), types.clone());
            output.port_type = PortType::ByParameter { parameter, types };
        }
    }

    fn look(params: &Params, inputs: &Given) -> Result<(), StageError> {
        let given = inputs.get("file").and_then(|it| it.first()).map(artifact::File::at);
        let first = match (&params.path, &given) {
            (None, None) => None,
            _ => Some(params.rows(given.as_ref())?),
        };
        for file in first.into_iter().chain(params.test_path.iter().map(|path| params.at(path))) {
            params.load_first(&file, LOOKED_AT, || Ok(()))?;
        }
        Ok(())
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let file = params.rows(inputs.file.as_ref())?;
        let loaded = params.load(&file, || context.heard())?;
        loaded.report("", context);
        let sides = if let Some(path) = &params.test_path {
            let test = params.load(&params.at(path), || context.heard())?;
            test.report("test_", context);
            Sides { train: loaded.rows, test: test.rows, note: None }
        } else {
            split(loaded.rows, params.test, params.group.as_deref(), context.stream("split"))?
        };
        let Sides { train, test, note } = sides;
        write_all(&outputs.train.path, params.format, &train)?;
        write_all(&outputs.test.path, params.format, &test)?;
        context.summary("train_rows", train.len() as f64);
        context.summary("test_rows", test.len() as f64);
        if params.test_path.is_some() {
            let shared =
                groups::shared(train.iter().map(Row::prompt), test.iter().map(Row::prompt));
            context.summary("test_prompts_in_train", shared as f64);
        }
        if let Some(note) = note {
            context.note(note);
        }
        Ok(())
    }
}

impl Params {
    /// Where the rows are: in the file that `path` names, or in that of the input.
    fn rows<'a>(&'a self, input: Option<&'a artifact::File>) -> Result<DataFile<'a>, StageError> {
        match (&self.path, input) {
            (Some(path), None) => Ok(self.at(path)),
            (None, Some(input)) => match &input.source {
                Source::File(path) => Ok(self.file(path, "the input `file`".to_owned())),
                Source::Tree(_) => Err(StageError::refused(
                    "the input `file` is a folder: a data set needs no loading, and of another folder \
                     name a file",
                )),
            },
            (None, None) => Err(StageError::refused(
                "say where the rows are: name a file in `path`, or give one to the input `file`",
            )),
            (Some(_), Some(_)) => Err(StageError::refused(
                "`path` and the input `file` both say where the rows are: leave one of them out",
            )),
        }
    }

    fn at<'a>(&'a self, path: &'a UserFile) -> DataFile<'a> {
        self.file(&path.0, format!("`{}`", path.0.display()))
    }

    fn file<'a>(&'a self, path: &'a Path, name: String) -> DataFile<'a> {
        DataFile { path, name, format: self.file_format, separator: self.separator.as_deref() }
    }

    /// Reads and checks all rows of a file, unless `heard` ends it.
    fn load(
        &self,
        file: &DataFile,
        heard: impl Fn() -> Result<(), StageError>,
    ) -> Result<Loaded, StageError> {
        let limit = self.limit.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
        self.load_first(file, limit, heard)
    }

    /// The same of the first `limit` rows.
    fn load_first(
        &self,
        file: &DataFile,
        limit: usize,
        heard: impl Fn() -> Result<(), StageError>,
    ) -> Result<Loaded, StageError> {
        let (written, records) = file.open()?;
        let prompt_end = self.prompt_end.as_deref();
        let verdict = self.verdict.as_ref();
        let mut wanted =
            Wanted::new(self.format, &self.columns, &self.leave_out, prompt_end, verdict)
                .map_err(StageError::refused)?;
        let (mut rows, mut blank_documents, mut ties) = (Vec::new(), 0, 0);
        let mut mistakes = Mistakes::up_to(self.max_errors);
        for record in records {
            heard()?;
            if rows.len() >= limit {
                break;
            }
            let (place, row) = match record {
                Ok(record) if written == FileFormat::Text && is_blank(&record) => {
                    blank_documents += 1;
                    continue;
                }
                Ok(record) => (record.place, wanted.row(record)),
                Err((place, why)) => (place, Err(why)),
            };
            let enough = match row {
                Ok(row) => {
                    ties += u64::from(row.is_none());
                    rows.extend(row);
                    false
                }
                Err(why) => mistakes.add(place, why),
            };
            if enough {
                break;
            }
        }
        let none = || match (rows.is_empty(), ties) {
            (true, 0) => Some("there are no rows in it".to_owned()),
            (true, _) => Some("all of its rows are ties, which teach no order".to_owned()),
            _ => None,
        };
        if let Some(words) = mistakes.words().or_else(none) {
            return Err(file.wrong(&words));
        }
        Ok(Loaded {
            guessed_prompts: wanted.guesses_prompts(),
            blank_documents: (written == FileFormat::Text).then_some(blank_documents),
            ties: verdict.map(|_| ties),
            rows,
        })
    }
}

fn is_blank(document: &Record) -> bool {
    document.cells.iter().all(|(_, cell)| {
        matches!(cell, Cell::Value(value) if value.as_str().is_some_and(|it| it.trim().is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::dataset::{Fields, PreferenceRow};

    /// The rows of a file with this name and content.
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
        let file = params.rows(None).map_err(strip)?;
        params.load(&file, || Ok(())).map(|loaded| loaded.rows).map_err(strip)
    }

    fn mistakes(name: &str, content: &str, params: &str) -> String {
        loaded(name, content.as_bytes(), params).unwrap_err()
    }

    const PREFERENCE: &str = r#"{"format": "preference"}"#;
    const TEXT: &str = r#"{"format": "text"}"#;

    fn pair(prompt: &str, chosen: &str, rejected: &str, margin: Option<f64>) -> Row {
        let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
        Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin }).into()
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
    fn comparisons_as_people_made_them_are_read_with_their_ties() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/qa_comparisons.jsonl");
        if !path.exists() {
            println!("skipped: there is no {}", path.display());
            return;
        }
        let params = serde_json::json!({
            "format": "preference", "path": path,
            "verdict": {
                "replies": ["response_a", "response_b"], "column": "preference", "values": ["a", "b"], "ties": ["tie"],
            },
        });
        let params: Params = serde_json::from_value(params).unwrap();
        let found = params.load(&params.rows(None).unwrap(), || Ok(())).unwrap();
        assert_eq!(
            (found.rows.len() as u64 + found.ties.unwrap(), found.guessed_prompts),
            (600, false)
        );
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
            {\"text\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n[1]\n{\"text\":null}\n\
            {\"text\":\"a\",\"text\":\"b\"}\n";
        insta::assert_snapshot!(mistakes("a.jsonl", content, TEXT), @r#"
        `a.jsonl`: row 2: it has `txt`, where row 1 has `text`: give all rows the same columns, or leave some out by `leave_out`
          row 3: not JSON (expected ident at column 2)
          row 4: `text` is a number, not a string
          row 5: `text` is empty: fill it in, or take the row out
          row 6: `text` is a list, perhaps of messages, and gradus does not read conversations yet: write each as one string
          row 7: not a JSON object: each line is one, like `{"text": "…"}`
          row 8: `text` is null, not a string
          row 9: the key `text` stands there twice (at column 18)
        "#);
    }

    #[test]
    fn a_row_that_lacks_what_the_first_has_or_the_other_way_round_is_refused() {
        let first = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n";
        let of = |other: &str| mistakes("a.jsonl", &format!("{first}{other}\n"), PREFERENCE);
        insta::assert_snapshot!(of(r#"{"chosen":"a b","rejected":"a c"}"#), @"`a.jsonl`: row 2: it has no `prompt`, and row 1 has: give all rows the same columns, or leave some out by `leave_out`");
        let margin = r#"{"prompt":"a","chosen":"b","rejected":"c","margin":1}"#;
        insta::assert_snapshot!(of(margin), @"`a.jsonl`: row 2: it has `margin`, and row 1 has not: give all rows the same columns, or leave some out by `leave_out`");
        insta::assert_snapshot!(of(&margin.replace("prompt", "question")), @"`a.jsonl`: row 2: it has `question`, `margin`, where row 1 has `prompt`: give all rows the same columns, or leave some out by `leave_out`");
        // What is left out may be here and not there.
        let leave_out = r#"{"format": "preference", "leave_out": ["margin"]}"#;
        let rows = loaded("a.jsonl", format!("{first}{margin}\n").as_bytes(), leave_out).unwrap();
        assert_eq!(rows, [pair("a", "b", "c", None), pair("a", "b", "c", None)]);
    }

    #[test]
    fn what_the_format_does_not_know_stays_with_the_row() {
        let content = "{\"question\":\"1+1?\",\"answer\":2,\"tags\":[\"sum\",{\"level\":1}]}\n";
        let params = r#"{"format": "prompt", "columns": {"prompt": "question"}}"#;
        let rows = loaded("a.jsonl", content.as_bytes(), params).unwrap();
        let row = serde_json::to_string(&rows[0]).unwrap();
        insta::assert_snapshot!(row, @r#"{"prompt":"1+1?","answer":2,"tags":["sum",{"level":1}]}"#);
        let rows = loaded("a.csv", b"id,question\n7,a\n", params).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&rows[0]).unwrap(), @r#"{"prompt":"a","id":"7"}"#);
    }

    #[test]
    fn two_columns_for_one_are_refused_and_so_are_names_that_nothing_reads() {
        let content = "{\"text\":\"a\",\"body\":\"b\"}\n";
        let of = |columns: &str, more: &str| {
            let params = format!(r#"{{"format": "text", "columns": {columns}{more}}}"#);
            loaded("a.jsonl", content.as_bytes(), &params)
        };
        let body = r#"{"text": "body"}"#;
        insta::assert_snapshot!(of(body, "").unwrap_err(), @"`a.jsonl`: row 1: there are a `text` and a `body`, which `columns` takes for it: leave one out under `leave_out`");
        assert_eq!(of(body, r#", "leave_out": ["text"]"#).unwrap()[0].prompt(), "b");
        insta::assert_snapshot!(of(r#"{"prompt": "body"}"#, "").unwrap_err(), @"`columns` names `prompt`, and rows of this format have `text`");
        let content = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n";
        let params = r#"{"format": "preference", "columns": {"chosen": "rejected"}}"#;
        insta::assert_snapshot!(mistakes("a.jsonl", content, params), @"`columns` has `chosen: rejected`, and another column is `rejected` too");
        let swapped =
            r#"{"format": "preference", "columns": {"chosen": "rejected", "rejected": "chosen"}}"#;
        let rows = loaded("a.jsonl", content.as_bytes(), swapped).unwrap();
        assert_eq!(rows, [pair("a", "c", "b", None)]);
    }

    #[test]
    fn the_prompt_ends_where_prompt_end_says() {
        let content = "{\"chosen\":\"H: a\\nA: the\",\"rejected\":\"H: a\\nA: that\"}\n";
        let rows = loaded("a.jsonl", content.as_bytes(), PREFERENCE).unwrap();
        assert_eq!(rows, [pair("H: a\nA: th", "e", "at", None)]);
        let params = r#"{"format": "preference", "prompt_end": "\nA:"}"#;
        let rows = loaded("a.jsonl", content.as_bytes(), params).unwrap();
        assert_eq!(rows, [pair("H: a\nA:", " the", " that", None)]);
        let explicit = "{\"prompt\":\"a\",\"chosen\":\" b\",\"rejected\":\" c\"}\n";
        insta::assert_snapshot!(mistakes("a.jsonl", explicit, params), @"`a.jsonl`: row 1: `prompt_end` is for rows without a prompt, and this one has it");
    }

    #[test]
    fn blank_documents_and_files_without_rows_are_noticed() {
        let params = r#"{"format": "text", "separator": "\n\n"}"#;
        let rows = loaded("a.txt", b"a\n\n \n\nb\nc\n\n", params).unwrap();
        assert_eq!(rows.iter().map(Row::prompt).collect::<Vec<_>>(), ["a", "b\nc"]);
        insta::assert_snapshot!(mistakes("a.txt", " \n", TEXT), @"`a.txt`: there are no rows in it");
        insta::assert_snapshot!(mistakes("a.jsonl", "", TEXT), @"`a.jsonl`: there are no rows in it");
    }

    #[test]
    fn rows_come_from_one_place_alone() {
        let input = |source| artifact::File { label: "file".to_owned(), source };
        let refused = |params: &str, input: Option<&artifact::File>| {
            let params: Params = serde_json::from_str(params).unwrap();
            let file = params.rows(input).map_err(|error| error.to_string());
            file.and_then(|file| file.open().map(|_| ()).map_err(|error| error.to_string()))
                .unwrap_err()
        };
        let blob = input(Source::File("/blobs/ab/cd".into()));
        insta::assert_snapshot!(refused(TEXT, None), @"say where the rows are: name a file in `path`, or give one to the input `file`");
        insta::assert_snapshot!(refused(r#"{"format": "text", "path": "a.txt"}"#, Some(&blob)), @"`path` and the input `file` both say where the rows are: leave one of them out");
        insta::assert_snapshot!(refused(TEXT, Some(&blob)), @"the input `file`: its name does not tell how it is written: say `file_format: jsonl`, `csv`, `parquet` or `text`");
        let folder = input(Source::Tree([].into()));
        insta::assert_snapshot!(refused(TEXT, Some(&folder)), @"the input `file` is a folder: a data set needs no loading, and of another folder name a file");
    }

    #[test]
    fn mistakes_are_counted_out_at_the_limit_and_rows_too() {
        let content = "{}\n".repeat(5);
        insta::assert_snapshot!(mistakes("a.jsonl", &content, r#"{"format": "text", "max_errors": 2}"#), @"
        `a.jsonl`: rows 1, 2: there is no column `text`; it has no others than were read
          and perhaps more: `max_errors` is 2
        ");
        let content = "{\"text\":\"a\"}\n".repeat(5);
        let rows = loaded("a.jsonl", content.as_bytes(), r#"{"format": "text", "limit": 2}"#);
        assert_eq!(rows.unwrap().len(), 2);
    }

    #[test]
    fn dialogues_of_people_have_prompts_that_end_inside_a_word_unless_their_end_is_said() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hh_harmless.jsonl");
        if !path.exists() {
            println!("skipped: there is no {}", path.display());
            return;
        }
        let load = |more: &str| {
            let path = path.display();
            let params =
                format!(r#"{{"format": "preference", "limit": 160, "path": "{path}"{more}}}"#);
            let params: Params = serde_json::from_str(&params).unwrap();
            params.load(&params.rows(None).unwrap(), || Ok(())).unwrap()
        };
        assert_eq!(load("").broken(), Some(18));
        assert_eq!(load(r#", "prompt_end": "\n\nAssistant:""#).broken(), None);
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
