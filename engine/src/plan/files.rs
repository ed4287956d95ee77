//! Files of the user's: where they may lie.
//!
//! Relative to the text that names them. A pipeline's own paths must stay inside its folder, links
//! included; paths that were typed on the command line may lead anywhere.

use std::path::PathBuf;

use crate::spec::{At, Mistakes, Pipeline, Problem};

/// The file that `text`, written at `at`, names.
pub(super) fn resolve(
    text: &str,
    at: At,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Option<PathBuf> {
    let source = pipeline.sources.get(at);
    let mut fail = |problem| {
        mistakes.add(&pipeline.sources, at, problem);
        None
    };
    let path = source.base.join(text);
    let Ok(real) = path.canonicalize() else {
        let (path, relative_to) = (text.to_owned(), source.base_in_words());
        return fail(Problem::MissingFile { path, relative_to });
    };
    if source.trusted {
        return Some(real);
    }
    match source.base.canonicalize() {
        Ok(base) if real.starts_with(&base) => Some(real),
        _ => fail(Problem::OutsideFolder(text.to_owned())),
    }
}
