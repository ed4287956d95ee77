//! Rows on disk as the examples that a loss takes.

use std::collections::BTreeSet;

use gradus_protocol::Source;

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
    pub(crate) tally: Tally,
}

/// Whole texts, each ended; of a row with a prompt, prompt and completion together.
pub(crate) fn texts(
    port: &str,
    source: &Source,
    codec: &Codec,
) -> Result<Vec<Labelled>, StageError> {
    let text = |row: &Row| {
        // Plain text is all prompt.
        let text = format!("{}{}", row.prompt(), row.completion().unwrap_or_default());
        rows::text(codec, &text)
    };
    open(port, source)?.map(|row| text(&row?)).collect()
}

/// Prompts with the completion to imitate; what has nothing left to learn is dropped.
pub(crate) fn completions(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    completion_only: bool,
) -> Result<Prepared<Example>, StageError> {
    prepared(port, source, fit, |row| {
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
pub(crate) fn preferences<T>(
    port: &'static str,
    source: &Source,
    fit: Fit,
    mut make: impl FnMut(&Preference) -> Result<Made<T>, StageError>,
) -> Result<Prepared<T>, StageError> {
    prepared(port, source, fit, |row| match row.fields {
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

fn prepared<T>(
    port: &'static str,
    source: &Source,
    fit: Fit,
    mut make: impl FnMut(Row) -> Result<Made<T>, StageError>,
) -> Result<Prepared<T>, StageError> {
    let (mut rows, mut tally) = (Vec::new(), Tally::new(port, fit));
    for row in open(port, source)? {
        rows.extend(tally.keep(make(row?)?));
    }
    Ok(Prepared { rows, tally: tally.some_left()? })
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
