//! Rows as token ids: what is the same for every model that has the tokenizer, however long its context.
//!
//! Made in memory by each stage, or once for many by `data.tokenize`: then a safetensors file that is read through
//! a mapping. `docs/data.md` describes it.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ids::Ids, tokenizer::Codec},
    error::StageError,
    nn::header,
};

/// The one entry of the file's metadata. Of several the order would hang on chance, and so would the bytes.
const SAID: &str = "gradus_tokens";

/// What the file says of itself, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(rename = "for")]
    purpose: Purpose,
    /// The digest of the tokenizer that made the ids.
    tokenizer: String,
}

/// What rows are tokenised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Whole texts, for `train.pretrain`.
    Text,
    /// A prompt with the completion to imitate, for `train.sft`.
    Completions,
    /// A prompt with a better and a worse completion, for models of what is preferred and for whoever learns from pairs.
    Preferences,
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Completions => "completions",
            Self::Preferences => "preferences",
        }
    }

    /// How many texts a row has.
    fn texts(self) -> usize {
        if self == Self::Preferences { 2 } else { 1 }
    }
}

/// A row. `T` are ids: by themselves, or a part of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenRow<T> {
    /// Prompt and completion with what ends it; of a preference the better one.
    pub(crate) text: T,
    /// The same with the worse completion.
    pub(crate) rejected: Option<T>,
    /// How many tokens at the start are prompt.
    pub(crate) prompt: usize,
    pub(crate) margin: Option<f64>,
    pub(crate) asked: Asked,
}

/// Names a prompt, so that rows of one prompt are known as such without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked([u8; 16]);

impl Asked {
    pub(crate) fn of(prompt: &str) -> Self {
        if prompt.is_empty() {
            return Self([0; 16]);
        }
        let hash = blake3::hash(prompt.as_bytes());
        Self(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    /// Empty for no prompt.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0 == [0; 16] { &[] } else { &self.0 }
    }
}

/// All rows of a data set.
pub(crate) struct TokenRows {
    purpose: Purpose,
    /// All texts, end to end.
    ids: Ids,
    /// Where each text ends.
    ends: Vec<u64>,
    prompts: Vec<u32>,
    /// Of all rows, or of none.
    margins: Vec<f64>,
    asked: Vec<Asked>,
}

impl TokenRows {
    pub(crate) fn len(&self) -> usize {
        self.prompts.len()
    }

    /// All ids, of one text after the other.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Where in [`Self::ids`] each text lies.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let range = start..as_usize(*end);
            start = range.end;
            range
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = TokenRow<Ids>> {
        let mut texts = self.texts().map(|range| self.ids.part(range));
        (0..self.len()).map(move |row| TokenRow {
            text: texts.next().expect("every row has its texts"),
            rejected: (self.purpose.texts() == 2).then(|| texts.next().expect("and both of them")),
            prompt: self.prompts[row] as usize,
            margin: self.margins.get(row).copied(),
            asked: self.asked[row],
        })
    }

    /// Rows as [`Self::save`] left them. Those of another tokenizer or for another purpose are refused.
    pub(crate) fn open(path: &Path, purpose: Purpose, codec: &Codec) -> Result<Self, StageError> {
        let file = File::open(path).map_err(StageError::file(path))?;
        // SAFETY: objects of the cache are never written in place.
        let bytes = unsafe { Mmap::map(&file) }.map_err(StageError::file(path))?;
        let refused = |why: String| {
            StageError::refused(format!("tokenised rows in `{}`: {why}", path.display()))
        };
        let foreign = || {
            StageError::refused(format!(
                "`{}` is neither a data set of gradus nor rows that `data.tokenize` made: bring it in with `data.load`",
                path.display()
            ))
        };
        let stored = header::open(&bytes).map_err(|_| foreign())?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|_| foreign())?;
        let said = header.metadata().as_ref().and_then(|it| it.get(SAID)).ok_or_else(foreign)?;
        let said: Said = serde_json::from_str(said).map_err(|_| foreign())?;
        if said.purpose != purpose {
            let (wanted, found) = (purpose.name(), said.purpose.name());
            return Err(refused(format!("they are `for: {found}`, and `for: {wanted}` is needed")));
        }
        if said.tokenizer != codec.digest()? {
            return Err(refused(
                "another tokenizer made them than the model has: give `data.tokenize` that of the model".to_owned(),
            ));
        }
        let rows = Self::read(path, &bytes, &stored, purpose)
            .map_err(|error| error.about("tokenised rows"))?;
        rows.check().map_err(|why| refused(why.to_owned()))?;
        Ok(rows)
    }

    fn read(
        path: &Path,
        bytes: &[u8],
        stored: &SafeTensors,
        purpose: Purpose,
    ) -> Result<Self, StageError> {
        let wrong =
            |name: &str| StageError::refused(format!("`{}` has no sound `{name}`", path.display()));
        let data = |name: &str, kind: Dtype| {
            let view = stored.tensor(name).ok().filter(|view| view.dtype() == kind);
            view.map(|view| view.data()).ok_or_else(|| wrong(name))
        };
        let ids = data("ids", Dtype::U32)?;
        // Where a tensor lies in the file is where it lies in the mapping.
        let start = ids.as_ptr() as usize - bytes.as_ptr() as usize;
        let margins =
            if stored.names().contains(&"margins") { data("margins", Dtype::F64)? } else { &[] };
        Ok(Self {
            purpose,
            ids: Ids::mapped(path, start..start + ids.len())?,
            ends: numbers(data("ends", Dtype::U64)?, u64::from_le_bytes),
            prompts: numbers(data("prompts", Dtype::U32)?, u32::from_le_bytes),
            margins: numbers(margins, f64::from_le_bytes),
            asked: numbers(data("asked", Dtype::U8)?, Asked),
        })
    }

    /// That no row leads out of the table.
    fn check(&self) -> Result<(), &'static str> {
        let rows = self.len();
        let numbers = self.ends.len() == rows * self.purpose.texts()
            && self.asked.len() == rows
            && (self.margins.is_empty() || self.margins.len() == rows);
        if !numbers {
            return Err("its columns have different lengths");
        }
        if !self.ends.is_sorted()
            || self.ends.last().map_or(0, |end| as_usize(*end)) != self.ids.len()
        {
            return Err("its texts do not end where its ids do");
        }
        let lengths: Vec<usize> = self.texts().map(|range| range.len()).collect();
        let texts = lengths.chunks(self.purpose.texts());
        if texts
            .zip(&self.prompts)
            .any(|(texts, prompt)| texts.iter().any(|it| *it < *prompt as usize))
        {
            return Err("a prompt is longer than its text");
        }
        if self.margins.iter().any(|margin| !margin.is_finite()) {
            return Err("a margin is not finite");
        }
        Ok(())
    }

    /// Writes a file that is not there yet.
    pub(crate) fn save(&self, codec: &Codec, path: &Path) -> Result<(), StageError> {
        let rows = self.len();
        let column = |kind, shape: &[usize], bytes| Column { kind, shape: shape.to_vec(), bytes };
        let bytes_of =
            |numbers: &mut dyn Iterator<Item = [u8; 8]>| numbers.flatten().collect::<Vec<u8>>();
        let mut columns = vec![
            ("ids", column(Dtype::U32, &[self.ids.len()], bytemuck::cast_slice(&self.ids).into())),
            ("ends", {
                let bytes = bytes_of(&mut self.ends.iter().map(|it| it.to_le_bytes()));
                column(Dtype::U64, &[self.ends.len()], bytes.into())
            }),
            ("prompts", column(Dtype::U32, &[rows], bytemuck::cast_slice(&self.prompts).into())),
            ("asked", {
                let bytes: Vec<u8> = self.asked.iter().flat_map(|it| it.0).collect();
                column(Dtype::U8, &[rows, 16], bytes.into())
            }),
        ];
        if !self.margins.is_empty() {
            let bytes = bytes_of(&mut self.margins.iter().map(|it| it.to_le_bytes()));
            columns.push(("margins", column(Dtype::F64, &[rows], bytes.into())));
        }
        let said = Said { purpose: self.purpose, tokenizer: codec.digest()? };
        let said = serde_json::to_string(&said)
            .map_err(|error| StageError::refused(format!("`{}`: {error}", path.display())))?;
        let says = HashMap::from([(SAID.to_owned(), said)]);
        safetensors::serialize_to_file(columns, Some(says), path)
            .map_err(|error| StageError::refused(format!("`{}`: {error}", path.display())))
    }
}

fn as_usize(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn numbers<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
}

/// A tensor of the file.
struct Column<'a> {
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl View for Column<'_> {
    fn dtype(&self) -> Dtype {
        self.kind
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Takes rows in, one after the other.
pub(crate) struct Collector {
    rows: TokenRows,
    table: Growing,
    written: u64,
}

/// Where ids go while there come more of them.
enum Growing {
    Memory(Vec<u32>),
    Disk(PathBuf, BufWriter<File>),
}

impl Collector {
    pub(crate) fn in_memory(purpose: Purpose) -> Self {
        Self::new(purpose, Growing::Memory(Vec::new()))
    }

    /// Keeps ids in a new file, so that there may be more than the memory holds.
    pub(crate) fn on_disk(purpose: Purpose, path: &Path) -> Result<Self, StageError> {
        let file = File::create_new(path).map_err(StageError::file(path))?;
        Ok(Self::new(purpose, Growing::Disk(path.to_owned(), BufWriter::new(file))))
    }

    fn new(purpose: Purpose, table: Growing) -> Self {
        let rows = TokenRows {
            purpose,
            ids: Vec::new().into(),
            ends: Vec::new(),
            prompts: Vec::new(),
            margins: Vec::new(),
            asked: Vec::new(),
        };
        Self { rows, table, written: 0 }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.rows.purpose
    }

    pub(crate) fn push(&mut self, row: TokenRow<Vec<u32>>) -> Result<(), StageError> {
        for text in [Some(row.text), row.rejected].into_iter().flatten() {
            self.written += text.len() as u64;
            self.rows.ends.push(self.written);
            match &mut self.table {
                Growing::Memory(ids) => ids.extend(text),
                Growing::Disk(path, file) => {
                    for id in text {
                        file.write_all(&id.to_le_bytes()).map_err(StageError::file(path))?;
                    }
                }
            }
        }
        self.rows.prompts.push(u32::try_from(row.prompt).unwrap_or(u32::MAX));
        self.rows.margins.extend(row.margin);
        self.rows.asked.push(row.asked);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<TokenRows, StageError> {
        let mut rows = self.rows;
        rows.ids = match self.table {
            Growing::Memory(ids) => ids.into(),
            Growing::Disk(path, mut file) => {
                file.flush().map_err(StageError::file(&path))?;
                Ids::mapped(&path, 0..as_usize(self.written) * size_of::<u32>())?
            }
        };
        rows.check().map_err(StageError::refused)?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifact::dataset::{Fields, PreferenceRow, Row},
        prepare::rows::{tests::letters, token_row},
    };

    fn rows(margin: Option<f64>, mut collector: Collector) -> TokenRows {
        for (prompt, chosen, rejected) in [("ca", "bc", "c"), ("", "a", "b"), ("ca", "", "cc")] {
            let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
            let row =
                Row::from(Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin }));
            collector.push(token_row(&letters(), &row, Purpose::Preferences).unwrap()).unwrap();
        }
        collector.finish().unwrap()
    }

    #[test]
    fn rows_come_back_from_the_disk_as_they_were_in_memory() {
        let place = tempfile::tempdir().unwrap();
        for margin in [None, Some(0.5)] {
            let [growing, path] = ["growing", "tokens"].map(|name| place.path().join(name));
            let made = rows(margin, Collector::on_disk(Purpose::Preferences, &growing).unwrap());
            made.save(&letters(), &path).unwrap();
            std::fs::remove_file(growing).unwrap();
            let read = TokenRows::open(&path, Purpose::Preferences, &letters()).unwrap();
            let here = rows(margin, Collector::in_memory(Purpose::Preferences));
            assert!(read.iter().eq(here.iter()) && here.iter().count() == 3);
            let asked: Vec<Asked> = read.iter().map(|row| row.asked).collect();
            assert!(asked[0] == asked[2] && asked[1].bytes().is_empty());
        }
    }

    #[test]
    fn rows_of_another_purpose_or_tokenizer_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        rows(None, Collector::in_memory(Purpose::Preferences)).save(&letters(), &path).unwrap();
        let refused = |purpose, codec: &Codec| {
            let error = TokenRows::open(&path, purpose, codec).err().unwrap().to_string();
            error.rsplit("`: ").next().unwrap().to_owned()
        };
        insta::assert_snapshot!(refused(Purpose::Text, &letters()), @"they are `for: preferences`, and `for: text` is needed");
        let mut other = letters();
        other.eos_text = "a".to_owned();
        insta::assert_snapshot!(refused(Purpose::Preferences, &other), @"another tokenizer made them than the model has: give `data.tokenize` that of the model");
        std::fs::write(&path, b"{}").unwrap();
        assert!(refused(Purpose::Preferences, &letters()).contains("bring it in with `data.load`"));
    }

    #[test]
    fn rows_that_lead_out_of_the_table_are_refused() {
        let spoilt = |spoil: fn(&mut TokenRows)| {
            let mut rows = rows(Some(1.0), Collector::in_memory(Purpose::Preferences));
            rows.check().unwrap();
            spoil(&mut rows);
            rows.check().unwrap_err()
        };
        let lengths = "its columns have different lengths";
        assert_eq!(spoilt(|rows| rows.asked.truncate(1)), lengths);
        assert_eq!(spoilt(|rows| rows.margins.truncate(1)), lengths);
        assert_eq!(spoilt(|rows| rows.ends.truncate(1)), lengths);
        let ends = "its texts do not end where its ids do";
        assert_eq!(spoilt(|rows| rows.ends.swap(0, 3)), ends);
        assert_eq!(spoilt(|rows| *rows.ends.last_mut().unwrap() += 1), ends);
        assert_eq!(spoilt(|rows| rows.prompts[1] = 9), "a prompt is longer than its text");
        assert_eq!(spoilt(|rows| rows.margins[0] = f64::NAN), "a margin is not finite");
    }
}
