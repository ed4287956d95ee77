//! The rows of a port as token ids: made on all cores, or taken as `data.tokenize` made them.

use gradus_protocol::Source;
use rayon::prelude::*;

use super::{
    rows::token_row,
    token_rows::{Collector, Purpose, TokenRows},
};
use crate::{
    artifact::{
        dataset::Row,
        dataset_folder::{self, Reader},
        tokenizer::Codec,
    },
    error::StageError,
};

/// Hears how many of how many rows are read, and ends it if the person asked for that.
pub(crate) type Report<'a> = &'a mut dyn FnMut(usize, usize) -> Result<(), StageError>;

/// The rows of `port`, of which there must be some.
pub(crate) fn token_rows(
    port: &str,
    source: &Source,
    codec: &Codec,
    purpose: Purpose,
    report: Report,
) -> Result<TokenRows, StageError> {
    let rows = match source {
        Source::File(path) => TokenRows::open(path, purpose, codec)
            .map_err(|error| error.about(&format!("`{port}`")))?,
        Source::Tree(_) => tokenised(port, source, codec, Collector::in_memory(purpose), report)?,
    };
    if rows.len() > 0 { Ok(rows) } else { Err(dataset_folder::no_rows(port)) }
}

/// Rows that are in memory at once, beside what is made of them.
const AT_ONCE: usize = 4096;

/// Tokenises all rows of a data set into `collector`, in order. It is most of the work of reading, so it is done on
/// all cores.
pub(crate) fn tokenised(
    port: &str,
    source: &Source,
    codec: &Codec,
    mut collector: Collector,
    report: Report,
) -> Result<TokenRows, StageError> {
    let mut reader = Reader::open_some(port, source)?;
    let (all, mut done) = (usize::try_from(reader.rows()).unwrap_or(usize::MAX), 0);
    let purpose = collector.purpose();
    report(done, all)?;
    loop {
        let rows = reader.by_ref().take(AT_ONCE).collect::<Result<Vec<Row>, _>>()?;
        if rows.is_empty() {
            return collector.finish();
        }
        done += rows.len();
        let rows: Result<Vec<_>, StageError> =
            rows.par_iter().map(|row| token_row(codec, row, purpose)).collect();
        rows?.into_iter().try_for_each(|row| collector.push(row))?;
        report(done, all)?;
    }
}
