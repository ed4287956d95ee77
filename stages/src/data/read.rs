//! Records out of JSON Lines, CSV and Parquet, all alike: named cells, and a place to point at.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use parquet::{file::serialized_reader::SerializedFileReader, record::Field};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{artifact::dataset::MOST_ROW_BYTES, error::StageError};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileFormat {
    /// One JSON object per line.
    Jsonl,
    /// Values between commas, under a line with the columns' names.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(f64),
    List,
    Null,
    /// Anything else, in words.
    Other(&'static str),
}

impl Cell {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::List => "a list",
            Self::Null => "null",
            Self::Other(kind) => kind,
        }
    }
}

/// One row of a file. Its place is the line it begins in; in Parquet, its number from 1.
pub(crate) struct Record {
    pub(crate) place: u64,
    pub(crate) cells: BTreeMap<String, Cell>,
}

/// A record, or the place and the reason why there is none.
pub(crate) type Records = Box<dyn Iterator<Item = Result<Record, (u64, String)>>>;

/// Opens a file of the user's.
pub(crate) fn open(path: &Path, format: Option<FileFormat>) -> Result<Records, StageError> {
    let format = match format {
        Some(format) => format,
        None => guess(path)?,
    };
    let file = File::open(path).map_err(StageError::file(path))?;
    let wrong = |error: &dyn std::fmt::Display| {
        StageError::refused(format!("`{}`: {error}", path.display()))
    };
    match format {
        FileFormat::Jsonl => {
            Ok(Box::new(Lines { file: BufReader::new(file), line: 0, ended: false }))
        }
        FileFormat::Csv => csv_records(file).map_err(|error| wrong(&error)),
        FileFormat::Parquet => parquet_records(file).map_err(|error| wrong(&error)),
    }
}

fn guess(path: &Path) -> Result<FileFormat, StageError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => Ok(FileFormat::Jsonl),
        "csv" => Ok(FileFormat::Csv),
        "parquet" => Ok(FileFormat::Parquet),
        "json" => Err(StageError::refused(format!(
            "`{}`: write one JSON object per line and call the file `.jsonl`, or say \
             `file_format: jsonl` if it is so",
            path.display()
        ))),
        _ => Err(StageError::refused(format!(
            "`{}`: its name does not tell how it is written: say `file_format: jsonl`, `csv` or \
             `parquet`",
            path.display()
        ))),
    }
}

struct Lines {
    file: BufReader<File>,
    line: u64,
    ended: bool,
}

impl Lines {
    /// The next line that is not blank.
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            let mut bounded = (&mut self.file).take(MOST_ROW_BYTES + 1);
            bounded.read_until(b'\n', &mut bytes).map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() as u64 > MOST_ROW_BYTES {
                self.ended = true;
                return Err(format!("the line is longer than {MOST_ROW_BYTES} bytes"));
            }
            let text = String::from_utf8(bytes).map_err(|error| not_utf8(&error))?;
            // Windows' editors begin files with a mark.
            let text = text.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Record, (u64, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = match self.line() {
            Ok(None) => return None,
            Ok(Some(text)) => json_cells(&text),
            Err(why) => Err(why),
        };
        let place = self.line;
        Some(record.map(|cells| Record { place, cells }).map_err(|why| (place, why)))
    }
}

fn not_utf8(error: &impl std::fmt::Display) -> String {
    format!("not UTF-8 text ({error}): convert the file to UTF-8")
}

fn json_cells(text: &str) -> Result<BTreeMap<String, Cell>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => {
            Ok(fields.into_iter().map(|(name, value)| (name, json_cell(value))).collect())
        }
        Ok(_) => Err("not a JSON object: each line is one, like `{\"text\": \"…\"}`".to_owned()),
        // serde_json counts lines from the start of what it was given: always 1.
        Err(error) => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            Err(format!("not JSON ({words} at column {})", error.column()))
        }
    }
}

fn json_cell(value: Value) -> Cell {
    match value {
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => Cell::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::Array(_) => Cell::List,
        Value::Null => Cell::Null,
        Value::Bool(_) => Cell::Other("true or false"),
        Value::Object(_) => Cell::Other("an object"),
    }
}

fn csv_records(file: File) -> Result<Records, String> {
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let names = reader.headers().map_err(|error| csv_error(&error).1)?;
    let names: Vec<_> =
        names.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    let records = reader.into_records().map(move |record| {
        let record = record.map_err(|error| csv_error(&error))?;
        let place = record.position().map_or(0, csv::Position::line);
        let cells =
            names.iter().cloned().zip(record.iter().map(|text| Cell::Text(text.to_owned())));
        Ok(Record { place, cells: cells.collect() })
    });
    Ok(Box::new(records))
}

fn csv_error(error: &csv::Error) -> (u64, String) {
    let place = error.position().map_or(0, csv::Position::line);
    let why = match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => not_utf8(err),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "it has {len} values, and there are {expected_len} columns: put values that hold \
             commas in quotes"
        ),
        _ => error.to_string(),
    };
    (place, why)
}

fn parquet_records(file: File) -> Result<Records, String> {
    let words =
        |error: parquet::errors::ParquetError| format!("not a sound Parquet file ({error})");
    let reader = SerializedFileReader::new(file).map_err(words)?;
    let rows = reader.into_iter();
    let records = (1..).zip(rows).map(move |(place, row)| {
        let row = row.map_err(|error| (place, words(error)))?;
        let cells = row.get_column_iter().map(|(name, field)| (name.clone(), parquet_cell(field)));
        Ok(Record { place, cells: cells.collect() })
    });
    Ok(Box::new(records))
}

fn parquet_cell(field: &Field) -> Cell {
    match field {
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Null => Cell::Null,
        Field::Byte(number) => Cell::Number((*number).into()),
        Field::Short(number) => Cell::Number((*number).into()),
        Field::Int(number) => Cell::Number((*number).into()),
        Field::Long(number) => Cell::Number(*number as f64),
        Field::UByte(number) => Cell::Number((*number).into()),
        Field::UShort(number) => Cell::Number((*number).into()),
        Field::UInt(number) => Cell::Number((*number).into()),
        Field::ULong(number) => Cell::Number(*number as f64),
        Field::Float(number) => Cell::Number((*number).into()),
        Field::Double(number) => Cell::Number(*number),
        Field::ListInternal(_) => Cell::List,
        Field::Group(_) | Field::MapInternal(_) => Cell::Other("an object"),
        Field::Bool(_) => Cell::Other("true or false"),
        Field::Bytes(_) => Cell::Other("bytes that are not marked as text"),
        _ => Cell::Other("neither text nor a plain number"),
    }
}
