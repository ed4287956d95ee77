//! Rows on disk: one JSONL file for every format. Its first line says which format, and how many
//! rows follow, so that a file cut short is noticed.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::StageError;

const VERSION: u32 = 1;
/// The header is padded to this, so that the count can be filled in at the end.
const HEADER_BYTES: usize = 96;
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

/// One row; its variant is the file's format.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Row {
    Text(TextRow),
    Prompt(PromptRow),
    PromptCompletion(CompletionRow),
    Preference(PreferenceRow),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextRow {
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromptRow {
    pub(crate) prompt: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionRow {
    pub(crate) prompt: String,
    pub(crate) completion: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreferenceRow {
    pub(crate) prompt: String,
    pub(crate) chosen: String,
    pub(crate) rejected: String,
    /// By how much the chosen one is better, where somebody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<f64>,
}

impl Row {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Text(_) => Format::Text,
            Self::Prompt(_) => Format::Prompt,
            Self::PromptCompletion(_) => Format::PromptCompletion,
            Self::Preference(_) => Format::Preference,
        }
    }

    /// The prompt; of plain text all of it.
    pub(crate) fn prompt(&self) -> &str {
        match self {
            Self::Text(row) => &row.text,
            Self::Prompt(row) => &row.prompt,
            Self::PromptCompletion(row) => &row.prompt,
            Self::Preference(row) => &row.prompt,
        }
    }

    /// The reply to imitate: of a preference the chosen one.
    pub(crate) fn completion(&self) -> Option<&str> {
        match self {
            Self::Text(_) | Self::Prompt(_) => None,
            Self::PromptCompletion(row) => Some(&row.completion),
            Self::Preference(row) => Some(&row.chosen),
        }
    }

    fn parse(format: Format, line: &[u8]) -> serde_json::Result<Self> {
        Ok(match format {
            Format::Text => Self::Text(serde_json::from_slice(line)?),
            Format::Prompt => Self::Prompt(serde_json::from_slice(line)?),
            Format::PromptCompletion => Self::PromptCompletion(serde_json::from_slice(line)?),
            Format::Preference => Self::Preference(serde_json::from_slice(line)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    gradus_dataset: u32,
    format: Format,
    rows: u64,
}

/// Reads rows one at a time.
pub(crate) struct Reader {
    lines: BufReader<File>,
    path: PathBuf,
    format: Format,
    rows: u64,
    done: u64,
    failed: bool,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, StageError> {
        let file = File::open(path).map_err(StageError::file(path))?;
        let mut reader = Self {
            lines: BufReader::with_capacity(1 << 16, file),
            path: path.to_owned(),
            format: Format::Text,
            rows: 0,
            done: 0,
            failed: false,
        };
        let line = reader.line()?;
        let header = serde_json::from_slice::<Header>(&line).map_err(|_| {
            StageError::refused(format!(
                "`{}` is not a data set of gradus: bring it in with `data.load`",
                path.display()
            ))
        })?;
        if header.gradus_dataset != VERSION {
            return Err(StageError::refused(format!(
                "`{}` was written by another version of gradus",
                path.display()
            )));
        }
        (reader.format, reader.rows) = (header.format, header.rows);
        Ok(reader)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How many rows there are in all.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn line(&mut self) -> Result<Vec<u8>, StageError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.lines).take(MOST_ROW_BYTES);
        bounded.read_until(b'\n', &mut line).map_err(StageError::file(&self.path))?;
        Ok(line)
    }

    fn read(&mut self) -> Result<Row, StageError> {
        let line = self.line()?;
        let damaged = |why: String| {
            let path = self.path.display();
            StageError::refused(format!("`{path}`, row {}: {why}", self.done + 1))
        };
        if line.last() != Some(&b'\n') {
            return Err(damaged(format!("the file ends before its {} rows", self.rows)));
        }
        Row::parse(self.format, &line).map_err(|error| damaged(error.to_string()))
    }
}

impl Iterator for Reader {
    type Item = Result<Row, StageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.done == self.rows {
            return None;
        }
        let row = self.read();
        self.failed = row.is_err();
        self.done += 1;
        Some(row)
    }
}

/// All rows of a file that is known to be small enough.
#[cfg(test)]
pub(crate) fn read_all(path: &Path) -> Result<Vec<Row>, StageError> {
    Reader::open(path)?.collect()
}

/// Writes rows one at a time; [`Writer::finish`] makes the file whole.
pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    format: Format,
    rows: u64,
}

impl Writer {
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, StageError> {
        let file = File::create_new(path).map_err(StageError::file(path))?;
        let mut writer =
            Self { file: BufWriter::new(file), path: path.to_owned(), format, rows: 0 };
        writer.write(&[b' '; HEADER_BYTES])?;
        Ok(writer)
    }

    pub(crate) fn push(&mut self, row: &Row) -> Result<(), StageError> {
        debug_assert_eq!(row.format(), self.format, "a file holds rows of one format");
        let mut line = to_json(row)?;
        line.push(b'\n');
        self.rows += 1;
        self.write(&line)
    }

    /// Fills in the header and says how many rows there are.
    pub(crate) fn finish(mut self) -> Result<u64, StageError> {
        let header = Header { gradus_dataset: VERSION, format: self.format, rows: self.rows };
        let mut line = to_json(&header)?;
        line.resize(HEADER_BYTES - 1, b' ');
        line.push(b'\n');
        self.file.seek(SeekFrom::Start(0)).map_err(StageError::file(&self.path))?;
        self.write(&line)?;
        self.file.flush().map_err(StageError::file(&self.path))?;
        Ok(self.rows)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.file.write_all(bytes).map_err(StageError::file(&self.path))
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StageError> {
    serde_json::to_vec(value).map_err(|error| StageError::refused(error.to_string()))
}

/// Writes all of `rows`.
pub(crate) fn write_all<'row>(
    path: &Path,
    format: Format,
    rows: impl IntoIterator<Item = &'row Row>,
) -> Result<u64, StageError> {
    let mut writer = Writer::create(path, format)?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(margin: Option<f64>) -> Row {
        let text = |text: &str| text.to_owned();
        let (prompt, chosen, rejected) = (text("a\nb"), text(" ü"), text(""));
        Row::Preference(PreferenceRow { prompt, chosen, rejected, margin })
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let rows = [pair(None), pair(Some(0.1))];
        assert_eq!(write_all(&path, Format::Preference, &rows).unwrap(), 2);
        let reader = Reader::open(&path).unwrap();
        assert_eq!((reader.format(), reader.rows()), (Format::Preference, 2));
        assert_eq!(read_all(&path).unwrap(), rows);
    }

    #[test]
    fn a_file_cut_short_is_refused_with_its_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        write_all(&path, Format::Preference, &[pair(None), pair(None)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let error = read_all(&path).unwrap_err().to_string();
        assert!(error.contains("row 2: the file ends before its 2 rows"), "{error}");
    }

    #[test]
    fn any_other_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, "{\"text\":\"a\"}\n").unwrap();
        let error = read_all(&path).unwrap_err().to_string();
        assert!(error.contains("data.load"), "{error}");
    }
}
