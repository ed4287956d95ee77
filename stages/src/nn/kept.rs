//! What is computed of rows, from the ledger where it is there.

use gradus_protocol::Page;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::StageError;

/// What `compute` makes of `rows`, which must be all that it hangs on beside the page's settings.
pub(crate) fn kept<T: Serialize + DeserializeOwned>(
    page: &Page,
    rows: &impl Serialize,
    compute: impl FnOnce() -> Result<T, StageError>,
) -> Result<T, StageError> {
    let rows = serde_json::to_vec(rows).expect("rows are tokens and names");
    let known = page.recall(&rows).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(known) = known {
        return Ok(known);
    }
    let result = compute()?;
    let bytes = serde_json::to_vec(&result).expect("results are numbers and tokens");
    if let Err(error) = page.keep(&rows, &bytes) {
        // The work itself goes on.
        tracing::warn!(%error, "the ledger does not take what was computed");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_stands_there_is_not_computed_and_a_number_that_is_none_is_never_there() {
        let place = tempfile::tempdir().unwrap();
        let page = Page::new(Some(place.path()), false, "test");
        let asked = Cell::new(0);
        let of = |rows: &[u32], value: f32| {
            let compute = || {
                asked.set(asked.get() + 1);
                Ok(vec![value, 0.1])
            };
            kept::<Vec<f32>>(&page, &rows, compute).unwrap()
        };
        assert_eq!(of(&[1, 2], 0.3), [0.3, 0.1]);
        assert_eq!(of(&[1, 2], 0.7), [0.3, 0.1]);
        assert_eq!(of(&[1, 3], 0.7), [0.7, 0.1]);
        assert_eq!(asked.get(), 2);
        assert!(of(&[4], f32::NAN)[0].is_nan() && of(&[4], f32::NAN)[0].is_nan());
        assert_eq!(asked.get(), 4);
    }
}
