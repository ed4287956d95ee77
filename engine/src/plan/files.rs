//! Files of the user's: where they may lie.
//!
//! Relative to the text that names them. A pipeline's own paths must stay inside its folder, links
//! included, also those in a file that it includes; paths that were typed on the command line may lead
//! anywhere.

use std::path::PathBuf;

use crate::spec::{At, Mistakes, Pipeline};

/// The file that `text`, written at `at`, names.
pub(super) fn resolve(
    text: &str,
    at: At,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<PathBuf> {
    let found = pipeline.sources.file(text, at, &pipeline.folder);
    found.map_err(|problem| mistakes.add(&pipeline.sources, at, problem)).ok()
}
