//! Rows on disk as the examples that a loss takes.

use gradus_protocol::Source;

use super::{
    rows::{self, IGNORED, Labelled},
    truncation::Truncation,
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

/// Whole texts, each ended; of a row with a prompt, prompt and completion together.
pub(crate) fn texts(source: &Source, codec: &Codec) -> Result<Vec<Labelled>, StageError> {
    each(source, |row| match &row.fields {
        Fields::Text(row) => rows::text(codec, &row.text).map(Some),
        _ => {
            let text = format!("{}{}", row.prompt(), row.completion().unwrap_or_default());
            rows::text(codec, &text).map(Some)
        }
    })
}

/// Prompts with the completion to imitate, cut to `longest` tokens; what has nothing left to learn is
/// dropped.
pub(crate) fn completions(
    source: &Source,
    codec: &Codec,
    longest: usize,
    completion_only: bool,
) -> Result<Vec<Example>, StageError> {
    let examples = each(source, |row| {
        let completion = row.completion().ok_or_else(|| wanted("completions"))?.to_owned();
        let row = CompletionRow { prompt: row.prompt().to_owned(), completion };
        let row = rows::completion(codec, &row, completion_only)?;
        Ok(rows::truncated(&row, longest, Truncation::KeepStart).map(Example::from))
    })?;
    if examples.is_empty() {
        return Err(StageError::refused(format!(
            "no row has a completion within {longest} tokens: raise `max_length`"
        )));
    }
    Ok(examples)
}

/// How many of the rows `kept` does not have.
pub(crate) fn dropped<T>(source: &Source, kept: &[T]) -> Result<f64, StageError> {
    let rows = Reader::open(source)?.rows();
    Ok(rows.saturating_sub(kept.len() as u64) as f64)
}

/// Hands every preference to `take`.
pub(crate) fn preferences(
    source: &Source,
    mut take: impl FnMut(&Preference) -> Result<(), StageError>,
) -> Result<(), StageError> {
    each(source, |row| match row.fields {
        Fields::Preference(row) => take(&row).map(|()| None::<()>),
        _ => Err(wanted("preferences")),
    })?;
    Ok(())
}

/// The prompts of any rows that have them, at most `most` and each once.
pub(crate) fn prompts(source: &Source, most: Option<usize>) -> Result<Vec<String>, StageError> {
    let mut seen = std::collections::BTreeSet::new();
    let mut prompts = each(source, |row| {
        let prompt = row.prompt().to_owned();
        Ok(seen.insert(prompt.clone()).then_some(prompt))
    })?;
    prompts.truncate(most.unwrap_or(usize::MAX));
    Ok(prompts)
}

fn wanted(format: &str) -> StageError {
    StageError::refused(format!("the rows are no {format}"))
}

fn each<T>(
    source: &Source,
    mut take: impl FnMut(Row) -> Result<Option<T>, StageError>,
) -> Result<Vec<T>, StageError> {
    let mut taken = Vec::new();
    for row in Reader::open(source)? {
        taken.extend(take(row?)?);
    }
    Ok(taken)
}
