//! Rows on disk as the examples that a loss takes.

use std::collections::BTreeSet;

use gradus_protocol::Source;
use rayon::prelude::*;

use super::{
    rows::{self, IGNORED, Labelled},
    tally::{Fit, Made, Tally},
    truncation::{TooLong, Truncation},
};
pub(crate) use crate::artifact::dataset::PreferenceRow as Preference;
use crate::{
    artifact::{
        dataset::{CompletionRow, Fields, Row},
        dataset_folder::Reader,
        tokenizer::Codec,
    },
    error::StageError,
    nn::batch::Example,
};

impl From<Labelled> for Example {
    fn from(row: Labelled) -> Self {
        let learn = row.labels.iter().map(|label| *label != IGNORED).collect();
        Self { ids: row.ids, learn }
    }
}

/// What was made of the rows of a port, and what became of the others.
pub(crate) struct Prepared<T> {
    pub(crate) rows: Vec<T>,
    /// Which row of the data each is, from 0.
    pub(crate) numbers: Vec<usize>,
    pub(crate) tally: Tally,
}

/// Hears how many of how many rows are read, and ends it if the person asked for that.
pub(crate) type Report<'a> = &'a mut dyn FnMut(usize, usize) -> Result<(), StageError>;

/// Whole texts, each ended; of a row with a prompt, prompt and completion together.
pub(crate) fn texts(
    port: &str,
    source: &Source,
    codec: &Codec,
    report: Report,
) -> Result<Vec<Labelled>, StageError> {
    let mut texts = Vec::new();
    let text = |row: Row| {
        // Plain text is all prompt.
        let text = format!("{}{}", row.prompt(), row.completion().unwrap_or_default());
        rows::text(codec, &text)
    };
    on_all_cores(port, source, report, text, |text| texts.push(text))?;
    Ok(texts)
}

/// Prompts with the completion to imitate; what has nothing left to learn is dropped.
pub(crate) fn completions(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    completion_only: bool,
    report: Report,
) -> Result<Prepared<Example>, StageError> {
    prepared(port, source, fit, report, |row| {
        let completion = row.completion().ok_or_else(|| wanted("completions"))?.to_owned();
        let row = CompletionRow { prompt: row.prompt().to_owned(), completion };
        let row = rows::completion(codec, &row, completion_only)?;
        let long = row.ids.len() > fit.tokens;
        if long && fit.too_long == TooLong::Drop {
            return Ok(Made::Dropped);
        }
        Ok(match rows::truncated(&row, fit.tokens, Truncation::KeepStart).map(Example::from) {
            None => Made::Dropped,
            Some(example) if long => Made::Cut(example),
            Some(example) => Made::Whole(example),
        })
    })
}

/// What `make` makes of every preference.
pub(crate) fn preferences<T: Send>(
    port: &'static str,
    source: &Source,
    fit: Fit,
    report: Report,
    make: impl Fn(&Preference) -> Result<Made<T>, StageError> + Sync,
) -> Result<Prepared<T>, StageError> {
    prepared(port, source, fit, report, |row| match row.fields {
        Fields::Preference(row) => make(&row),
        _ => Err(wanted("preferences")),
    })
}

/// Prompts, each once.
pub(crate) struct Prompts {
    pub(crate) texts: Vec<String>,
    /// How many rows had a prompt that had come before.
    pub(crate) repeated: usize,
}

/// The first `most` different prompts of any rows that have them.
pub(crate) fn prompts(
    port: &str,
    source: &Source,
    most: Option<usize>,
) -> Result<Prompts, StageError> {
    let (mut seen, mut texts, mut repeated) = (BTreeSet::new(), Vec::new(), 0);
    for row in open(port, source)? {
        let prompt = row?.prompt().to_owned();
        if seen.insert(prompt.clone()) {
            texts.push(prompt);
        } else {
            repeated += 1;
        }
    }
    texts.truncate(most.unwrap_or(usize::MAX));
    Ok(Prompts { texts, repeated })
}

fn wanted(format: &str) -> StageError {
    StageError::refused(format!("the rows are no {format}"))
}

fn prepared<T: Send>(
    port: &'static str,
    source: &Source,
    fit: Fit,
    report: Report,
    make: impl Fn(Row) -> Result<Made<T>, StageError> + Sync,
) -> Result<Prepared<T>, StageError> {
    let (mut rows, mut numbers, mut tally) = (Vec::new(), Vec::new(), Tally::new(port, fit));
    let mut number = 0;
    on_all_cores(port, source, report, make, |made| {
        if let Some(row) = tally.keep(made) {
            rows.push(row);
            numbers.push(number);
        }
        number += 1;
    })?;
    Ok(Prepared { rows, numbers, tally: tally.some_left()? })
}

/// Rows that are in memory at once, beside what is made of them.
const AT_ONCE: usize = 4096;

/// Hands what `make` makes of every row to `take`, in order. Tokenising is most of the work, so rows are made on
/// all cores.
fn on_all_cores<T: Send>(
    port: &str,
    source: &Source,
    report: Report,
    make: impl Fn(Row) -> Result<T, StageError> + Sync,
    mut take: impl FnMut(T),
) -> Result<(), StageError> {
    let mut reader = open(port, source)?;
    let (all, mut done) = (usize::try_from(reader.rows()).unwrap_or(usize::MAX), 0);
    report(done, all)?;
    loop {
        let rows = reader.by_ref().take(AT_ONCE).collect::<Result<Vec<Row>, _>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        done += rows.len();
        let results: Result<Vec<T>, StageError> = rows.into_par_iter().map(&make).collect();
        results?.into_iter().for_each(&mut take);
        report(done, all)?;
    }
}

/// The rows of a port, of which there must be some.
fn open(port: &str, source: &Source) -> Result<Reader, StageError> {
    let rows = Reader::open(source)?;
    if rows.rows() > 0 {
        return Ok(rows);
    }
    let remedy = match port {
        "test" => ": set `test` of `data.load`, which is 0 by default, or leave the input out",
        _ => "",
    };
    Err(StageError::refused(format!("`{port}` has no rows{remedy}")))
}
