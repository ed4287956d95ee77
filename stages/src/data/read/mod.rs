//! Records out of a file of the user's, all alike: named cells, and a place to point at.
//!
//! Every way of writing a file has its own reader. They agree that a column stands once, that nothing is
//! left out but blank lines, and that what cannot be read is said with the row.

mod csv;
mod jsonl;
mod lines;
mod parquet;
mod record;
mod text;

use std::{
    fs::File,
    io::{Read, Seek},
    path::Path,
};

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use record::{Cell, Record, Records};

use crate::error::StageError;

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
    /// Plain text, in a column `text`: the whole file, or what `separator` parts.
    Text,
}

/// A file of the user's, and what is said about how to read it.
pub(crate) struct DataFile<'a> {
    pub(crate) path: &'a Path,
    /// What a person calls it, in backticks.
    pub(crate) name: String,
    /// The extension tells where nothing is said.
    pub(crate) format: Option<FileFormat>,
    pub(crate) separator: Option<&'a str>,
}

impl DataFile<'_> {
    /// Opens the file, and says how it is written.
    pub(crate) fn open(&self) -> Result<(FileFormat, Records), StageError> {
        let format = self.format.map_or_else(|| self.guess(), Ok)?;
        if self.path.is_dir() {
            return Err(self.wrong("it is a folder: name the file in it"));
        }
        let mut file = File::open(self.path).map_err(StageError::file(self.path))?;
        self.look(&mut file, format)?;
        let records = match (format, self.separator) {
            (FileFormat::Jsonl | FileFormat::Parquet, Some(_)) => {
                Err("`separator` is for CSV and text: leave it out".to_owned())
            }
            (FileFormat::Jsonl, None) => Ok(jsonl::records(file)),
            (FileFormat::Parquet, None) => parquet::records(file),
            (FileFormat::Csv, separator) => csv::records(file, separator),
            (FileFormat::Text, separator) => text::records(file, separator),
        };
        records.map(|records| (format, records)).map_err(|why| self.wrong(&why))
    }

    pub(crate) fn wrong(&self, why: &str) -> StageError {
        StageError::refused(format!("{}: {why}", self.name))
    }

    fn guess(&self) -> Result<FileFormat, StageError> {
        let extension = self.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" => Ok(FileFormat::Jsonl),
            "csv" => Ok(FileFormat::Csv),
            "parquet" => Ok(FileFormat::Parquet),
            "txt" => Ok(FileFormat::Text),
            "tsv" => Err(self.wrong("say `file_format: csv` and `separator: \"\\t\"`")),
            "json" => Err(self.wrong(
                "write one JSON object per line and call the file `.jsonl`, or say \
                 `file_format: jsonl` if it is so",
            )),
            _ => Err(self.wrong(
                "its name does not tell how it is written: say `file_format: jsonl`, `csv`, \
                 `parquet` or `text`",
            )),
        }
    }

    /// Looks at the first bytes for what is plainly something else than `format`.
    fn look(&self, file: &mut File, format: FileFormat) -> Result<(), StageError> {
        let mut start = Vec::new();
        let read = file.by_ref().take(64).read_to_end(&mut start);
        read.and_then(|_| file.rewind()).map_err(StageError::file(self.path))?;
        let parquet = format == FileFormat::Parquet;
        if start.starts_with(b"version https://git-lfs") {
            return Err(self.wrong(
                "it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`",
            ));
        }
        if !parquet && start.starts_with(b"PAR1") {
            return Err(self.wrong("it is a Parquet file: say `file_format: parquet`"));
        }
        if start.starts_with(&[0x1f, 0x8b]) {
            return Err(self.wrong("it is compressed with gzip: unpack it first"));
        }
        if !parquet && (start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff])) {
            return Err(self.wrong(
                "it is UTF-16 text: convert the file, with `iconv -f UTF-16 -t UTF-8` say",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a file's records, or all that is said about it.
    fn read(name: &str, content: &[u8], separator: Option<&str>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let file = DataFile { path: &path, name: format!("`{name}`"), format: None, separator };
        let (_, records) = file.open().map_err(|error| error.to_string())?;
        let values = records.map(|record| {
            let record = record.map_err(|(place, why)| format!("row {place}: {why}"))?;
            let values = record.cells.into_iter().map(|(name, cell)| match cell {
                Cell::Value(value) => format!("{name}={value}"),
                Cell::Foreign(kind) => kind.to_owned(),
            });
            Ok(values.collect::<Vec<_>>().join(" "))
        });
        values.collect()
    }

    fn wrong(name: &str, content: &[u8]) -> String {
        read(name, content, None).unwrap_err()
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused() {
        insta::assert_snapshot!(wrong("a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n"), @"row 2: not UTF-8 text (the byte 0xFF at 10): convert the file, from Windows-1252 say with `iconv -f WINDOWS-1252 -t UTF-8`");
        insta::assert_snapshot!(wrong("a.csv", b"text\ncaf\xe9\n"), @"row 2: not UTF-8 text (the byte 0xE9 at 4): convert the file, from Windows-1252 say with `iconv -f WINDOWS-1252 -t UTF-8`");
        insta::assert_snapshot!(wrong("a.csv", b"\xff\xfet\0e\0x\0t\0\n\0"), @"`a.csv`: it is UTF-16 text: convert the file, with `iconv -f UTF-16 -t UTF-8` say");
    }

    #[test]
    fn a_file_that_is_no_such_file_is_refused() {
        insta::assert_snapshot!(wrong("a.dat", b"x"), @"`a.dat`: its name does not tell how it is written: say `file_format: jsonl`, `csv`, `parquet` or `text`");
        insta::assert_snapshot!(wrong("a.json", b"[]"), @"`a.json`: write one JSON object per line and call the file `.jsonl`, or say `file_format: jsonl` if it is so");
        insta::assert_snapshot!(wrong("a.tsv", b"text\tb"), @r#"`a.tsv`: say `file_format: csv` and `separator: "\t"`"#);
        insta::assert_snapshot!(wrong("a.parquet", b"x"), @"`a.parquet`: not a sound Parquet file (EOF: Parquet file too small. Size is 1 but need 8)");
        insta::assert_snapshot!(wrong("a.jsonl", b"PAR1"), @"`a.jsonl`: it is a Parquet file: say `file_format: parquet`");
        insta::assert_snapshot!(wrong("a.csv", &[0x1f, 0x8b]), @"`a.csv`: it is compressed with gzip: unpack it first");
        insta::assert_snapshot!(wrong("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), @"`a.parquet`: it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`");
        let format = Some(FileFormat::Csv);
        let folder =
            DataFile { path: Path::new("/"), name: "`/`".to_owned(), format, separator: None };
        insta::assert_snapshot!(folder.open().err().unwrap(), @"`/`: it is a folder: name the file in it");
    }

    #[test]
    fn csv_is_read_with_line_ends_inside_of_quotes_and_with_other_separators() {
        let found =
            read("a.csv", "\u{feff}text,b\r\n\r\n\"a, b\",\"c\nd\"\n".as_bytes(), None).unwrap();
        assert_eq!(found, [r#"text="a, b" b="c\nd""#]);
        let found = read("a.csv", b"text;n\na,b;\"c;d\"\n", Some(";")).unwrap();
        assert_eq!(found, [r#"text="a,b" n="c;d""#]);
    }

    #[test]
    fn csv_that_would_be_read_as_something_else_is_refused() {
        let of = |content: &str| wrong("a.csv", content.as_bytes());
        insta::assert_snapshot!(of("text,b\nx\n"), @"row 2: it has 1 values, and there are 2 columns: put values that hold `,` in quotes");
        insta::assert_snapshot!(of("text;b\nx;y\n"), @r#"`a.csv`: its first line has no `,`, but `;`: say `separator: ";"`"#);
        insta::assert_snapshot!(of("text,text\nx,y\n"), @"`a.csv`: the column `text` stands there twice: give one another name");
        insta::assert_snapshot!(of("text,b\nx,y\nz,\"w\nx,y\n"), @"row 3: a quote is opened and never closed");
        insta::assert_snapshot!(of("text,b\nx,\"say \"hi\" to\"\nx\n"), @r#"row 2: a quote is closed inside a value (at 9): write quotes inside quotes twice, as `""`"#);
        insta::assert_snapshot!(read("a.csv", b"text", Some("ab")).unwrap_err(), @"`a.csv`: the `separator` of a CSV file is one ASCII character");
        insta::assert_snapshot!(read("a.jsonl", b"{}", Some(";")).unwrap_err(), @"`a.jsonl`: `separator` is for CSV and text: leave it out");
    }

    #[test]
    fn a_text_file_is_one_document_or_what_a_separator_parts() {
        let of = |content: &str, separator| read("a.txt", content.as_bytes(), separator);
        assert_eq!(of("a\n\nb\n", None).unwrap(), [r#"text="a\n\nb\n""#]);
        assert_eq!(of("a\n\nb\nc\n\n", Some("\n\n")).unwrap(), [r#"text="a""#, r#"text="b\nc""#]);
        insta::assert_snapshot!(of("a\r\n\r\nb", Some("\n\n")).unwrap_err(), @r"`a.txt`: `separator` does not occur in it, and its lines end in `\r\n`, as Windows ends them: convert them, or write it as `\r\n\r\n`");
    }
}
