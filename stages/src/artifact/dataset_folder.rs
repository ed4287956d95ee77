//! Rows on disk: a folder with `rows.jsonl`, a JSON object per row and nothing else, and `dataset.json`,
//! which says the format, the columns and how many rows there are, so that a file cut short is noticed.
//!
//! `docs/data.md` describes both for people, who may read and write them.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use gradus_protocol::Source;
use serde::{Deserialize, Serialize};

use super::{
    dataset::{Format, MOST_ROW_BYTES, Row},
    json,
};
use crate::error::StageError;

const VERSION: u32 = 2;
const ROWS: &str = "rows.jsonl";
const DESCRIPTION: &str = "dataset.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    gradus_dataset: u32,
    format: Format,
    rows: u64,
    columns: Vec<String>,
}

impl Description {
    fn read(path: &Path) -> Result<Self, StageError> {
        let bytes = fs::read(path).map_err(StageError::file(path))?;
        let description: Self = serde_json::from_slice(&bytes).map_err(|error| {
            StageError::refused(format!("a data set's `{DESCRIPTION}` is not sound: {error}"))
        })?;
        if description.gradus_dataset != VERSION {
            return Err(StageError::refused(format!(
                "a data set's `{DESCRIPTION}` was written by another version of gradus"
            )));
        }
        Ok(description)
    }

    /// The same columns, in whatever order.
    fn describes(&self, row: &Row) -> bool {
        let mut count = 0;
        row.columns().all(|name| {
            count += 1;
            self.columns.iter().any(|column| column == name)
        }) && count == self.columns.len()
    }
}

/// Reads rows one at a time.
pub(crate) struct Reader {
    lines: BufReader<File>,
    description: Description,
    done: u64,
    ended: bool,
}

impl Reader {
    pub(crate) fn open(source: &Source) -> Result<Self, StageError> {
        let foreign = |what: String| {
            StageError::refused(format!(
                "{what} is not a data set of gradus: bring it in with `data.load`"
            ))
        };
        let files = match source {
            Source::File(path) => return Err(foreign(format!("`{}`", path.display()))),
            Source::Tree(files) => files,
        };
        let (Some(rows), Some(description)) = (files.get(ROWS), files.get(DESCRIPTION)) else {
            return Err(foreign(format!("a folder without `{ROWS}` and `{DESCRIPTION}`")));
        };
        let file = File::open(rows).map_err(StageError::file(rows))?;
        Ok(Self {
            lines: BufReader::with_capacity(1 << 16, file),
            description: Description::read(description)?,
            done: 0,
            ended: false,
        })
    }

    /// The rows that came in through `port`, of which there must be some.
    pub(crate) fn open_some(port: &str, source: &Source) -> Result<Self, StageError> {
        let rows = Self::open(source)?;
        if rows.rows() > 0 { Ok(rows) } else { Err(no_rows(port)) }
    }

    pub(crate) fn format(&self) -> Format {
        self.description.format
    }

    /// How many rows there are in all.
    pub(crate) fn rows(&self) -> u64 {
        self.description.rows
    }

    /// The next row; `None` at the end, which must be where `dataset.json` has it.
    fn read(&mut self) -> Result<Option<Row>, String> {
        let rows = self.rows();
        let mut line = Vec::new();
        let mut bounded = (&mut self.lines).take(MOST_ROW_BYTES);
        bounded.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        if self.done == rows && line.is_empty() {
            return Ok(None);
        }
        self.done += 1;
        if self.done > rows {
            return Err(format!("`{DESCRIPTION}` says that there are {rows} rows"));
        }
        if line.last() != Some(&b'\n') {
            return Err(format!("the file ends before its {rows} rows"));
        }
        let columns = json::object(&line)?.ok_or("not a JSON object")?;
        let row = Row::of(self.format(), columns)?;
        if !self.description.describes(&row) {
            return Err(format!("its columns are not those that `{DESCRIPTION}` lists"));
        }
        Ok(Some(row))
    }
}

pub(crate) fn no_rows(port: &str) -> StageError {
    let remedy = match port {
        "test" => ": set `test` of `data.load`, which is 0 by default, or leave the input out",
        _ => "",
    };
    StageError::refused(format!("`{port}` has no rows{remedy}"))
}

impl Iterator for Reader {
    type Item = Result<Row, StageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().map_err(|why| {
            StageError::refused(format!("a data set's `{ROWS}`, row {}: {why}", self.done))
        });
        self.ended = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}

/// Writes rows one at a time; [`Writer::finish`] makes the folder whole.
struct Writer {
    file: BufWriter<File>,
    folder: PathBuf,
    description: Description,
}

impl Writer {
    fn create(folder: &Path, format: Format) -> Result<Self, StageError> {
        fs::create_dir(folder).map_err(StageError::file(folder))?;
        let path = folder.join(ROWS);
        let file = File::create_new(&path).map_err(StageError::file(&path))?;
        let columns = format.columns().iter().map(ToString::to_string).collect();
        let description = Description { gradus_dataset: VERSION, format, rows: 0, columns };
        Ok(Self { file: BufWriter::new(file), folder: folder.to_owned(), description })
    }

    fn push(&mut self, row: &Row) -> Result<(), StageError> {
        debug_assert_eq!(row.format(), self.description.format, "a folder has rows of one format");
        if self.description.rows == 0 {
            self.description.columns = row.columns().map(str::to_owned).collect();
            let names: HashSet<&String> = self.description.columns.iter().collect();
            debug_assert_eq!(names.len(), self.description.columns.len(), "a column stands once");
        } else if !self.description.describes(row) {
            return Err(StageError::refused("rows with different columns came together"));
        }
        self.description.rows += 1;
        let mut line = to_json(serde_json::to_vec(row))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(StageError::file(&self.folder))
    }

    fn finish(mut self) -> Result<(), StageError> {
        self.file.flush().map_err(StageError::file(&self.folder))?;
        let mut json = to_json(serde_json::to_vec_pretty(&self.description))?;
        json.push(b'\n');
        let path = self.folder.join(DESCRIPTION);
        fs::write(&path, json).map_err(StageError::file(&path))
    }
}

fn to_json(json: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>, StageError> {
    json.map_err(|error| StageError::refused(error.to_string()))
}

/// Writes all of `rows` into a folder that is not there yet.
pub(crate) fn write_all<'row>(
    folder: &Path,
    format: Format,
    rows: impl IntoIterator<Item = &'row Row>,
) -> Result<(), StageError> {
    let mut writer = Writer::create(folder, format)?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}

/// The data set in a folder, as an input has it.
pub(crate) fn source_at(folder: &Path) -> Source {
    let files = [ROWS, DESCRIPTION].map(|name| (name.to_owned(), folder.join(name)));
    Source::Tree(files.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::dataset::{Fields, PreferenceRow};

    fn pair(margin: Option<f64>, id: u64) -> Row {
        let text = |text: &str| text.to_owned();
        let (prompt, chosen, rejected) = (text("a\nb"), text(" ü"), text(""));
        let mut row =
            Row::from(Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin }));
        row.extra.insert("id".to_owned(), id.into());
        row
    }

    /// A folder with `rows`, and a way to read what it holds after something was done to a file.
    struct Place(tempfile::TempDir);

    impl Place {
        fn of(rows: &[Row]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            write_all(&place.folder(), Format::Preference, rows).unwrap();
            place
        }

        fn folder(&self) -> PathBuf {
            self.0.path().join("rows")
        }

        fn text(&self, file: &str) -> String {
            fs::read_to_string(self.folder().join(file)).unwrap()
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.folder().join(file), text).unwrap();
        }

        fn read(&self) -> Result<Vec<Row>, String> {
            let reader = Reader::open(&source_at(&self.folder())).map_err(|it| it.to_string())?;
            reader.collect::<Result<_, _>>().map_err(|it| it.to_string())
        }
    }

    #[test]
    fn rows_come_back_as_they_went_in_and_a_person_can_read_them() {
        let rows = [pair(Some(0.1), 1), pair(Some(2.0), 2)];
        let place = Place::of(&rows);
        insta::assert_snapshot!(place.text(ROWS), @r#"
        {"prompt":"a\nb","chosen":" ü","rejected":"","margin":0.1,"id":1}
        {"prompt":"a\nb","chosen":" ü","rejected":"","margin":2.0,"id":2}
        "#);
        insta::assert_snapshot!(place.text(DESCRIPTION), @r#"
        {
          "gradus_dataset": 2,
          "format": "preference",
          "rows": 2,
          "columns": [
            "prompt",
            "chosen",
            "rejected",
            "margin",
            "id"
          ]
        }
        "#);
        assert_eq!(place.read().unwrap(), rows);
        assert_eq!(Place::of(&[]).read().unwrap(), []);
    }

    #[test]
    fn a_file_cut_short_or_made_longer_is_refused_with_its_row() {
        let place = Place::of(&[pair(None, 1), pair(None, 2)]);
        let whole = place.text(ROWS);
        let with = |text: &str| {
            place.write(ROWS, text);
            place.read().unwrap_err()
        };
        insta::assert_snapshot!(with(&whole[..whole.len() - 3]), @"a data set's `rows.jsonl`, row 2: the file ends before its 2 rows");
        insta::assert_snapshot!(with(&whole[..whole.len() / 2]), @"a data set's `rows.jsonl`, row 2: the file ends before its 2 rows");
        insta::assert_snapshot!(with(&whole.repeat(2)), @"a data set's `rows.jsonl`, row 3: `dataset.json` says that there are 2 rows");
        insta::assert_snapshot!(with(&whole.replace("\"id\":2", "\"ID\":2")), @"a data set's `rows.jsonl`, row 2: its columns are not those that `dataset.json` lists");
        insta::assert_snapshot!(with(&whole.replace("\"id\":2", "\"prompt\":2")), @"a data set's `rows.jsonl`, row 2: the key `prompt` stands there twice (at column 54)");
    }

    #[test]
    fn rows_of_two_shapes_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [pair(None, 1), pair(Some(1.0), 2)];
        assert!(write_all(&folder.path().join("rows"), Format::Preference, &rows).is_err());
    }

    #[test]
    fn any_other_file_or_folder_is_refused() {
        let open = |source: Source| Reader::open(&source).err().unwrap().to_string();
        insta::assert_snapshot!(open(Source::File("some.jsonl".into())), @"`some.jsonl` is not a data set of gradus: bring it in with `data.load`");
        insta::assert_snapshot!(open(Source::Tree([].into())), @"a folder without `rows.jsonl` and `dataset.json` is not a data set of gradus: bring it in with `data.load`");
    }
}
