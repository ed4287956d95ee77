//! What stands in a column of rows beside their text: a label that somebody gave.

use gradus_protocol::Source;
use serde_json::Value;

use crate::{artifact::dataset_folder::Reader, error::StageError};

/// The number that each row has in `column`: true is 1 and false is 0, and words that say so or are numbers count as such, as a
/// table may have nothing but words.
pub(crate) fn labels(port: &str, source: &Source, column: &str) -> Result<Vec<f64>, StageError> {
    let label = |(at, row): (usize, Result<_, StageError>)| {
        let row: crate::artifact::dataset::Row = row?;
        let wrong = |why: String| StageError::refused(format!("`{port}`, row {}: {why}", at + 1));
        let value = row.extra.get(column).ok_or_else(|| {
            wrong(format!("there is no column `{column}`, which is to say how good it is: name the right one by `label`"))
        })?;
        number(value).ok_or_else(|| {
            wrong(format!("`{column}` is {value}, and neither true or false nor a number"))
        })
    };
    Reader::open_some(port, source)?.enumerate().map(label).collect()
}

fn number(value: &Value) -> Option<f64> {
    let word = value.as_str().map(|word| word.trim().to_lowercase());
    let said = match word.as_deref() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => value.as_bool(),
    };
    let number = said.map(|it| f64::from(u8::from(it))).or(value.as_f64());
    let number = number.or_else(|| word.as_deref()?.parse().ok());
    number.filter(|it| it.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn truths_numbers_and_words_are_labels() {
        for (value, by_hand) in [
            (json!(true), Some(1.0)),
            (json!(false), Some(0.0)),
            (json!(-0.5), Some(-0.5)),
            (json!(" True"), Some(1.0)),
            (json!("0.25"), Some(0.25)),
            (json!("good"), None),
            (json!("nan"), None),
            (json!(null), None),
        ] {
            assert_eq!(number(&value), by_hand, "{value}");
        }
    }
}
