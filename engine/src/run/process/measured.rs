//! The numbers that a program measured, from the JSON file that it left.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::{Map, Value};

use crate::event::Metrics;

const MOST_BYTES: u64 = 16 << 20;
const MOST_NUMBERS: usize = 10_000;
const LONGEST_NAME: usize = 256;

/// Every number of the object in `path`; one in an object within is named `outer.inner`. All else is passed over.
pub(crate) fn read(path: &Path) -> Result<Metrics, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        format!("it is no JSON ({error}; `NaN` and `Infinity` are none either)")
    })?;
    let Value::Object(map) = value else {
        return Err("it holds no object: `{ \"accuracy\": 0.75 }`".to_owned());
    };
    let mut metrics = Metrics::new();
    collect(&map, "", &mut metrics);
    if metrics.is_empty() {
        return Err("it holds no number".to_owned());
    }
    if metrics.len() > MOST_NUMBERS {
        return Err(format!("it holds more than {MOST_NUMBERS} numbers"));
    }
    let odd = metrics.keys().find(|it| it.len() > LONGEST_NAME || it.contains(char::is_control));
    match odd {
        Some(name) => Err(format!("`{}` is no name of a metric", name.escape_debug())),
        None => Ok(metrics),
    }
}

fn collect(map: &Map<String, Value>, prefix: &str, metrics: &mut Metrics) {
    for (key, value) in map {
        let name = format!("{prefix}{key}");
        match value {
            Value::Number(number) => _ = metrics.insert(name, number.as_f64()),
            Value::Object(inner) => collect(inner, &format!("{name}."), metrics),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Metrics, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn numbers_are_taken_wherever_they_stand() {
        let text = r#"{"acc": 0.5, "n": 3, "of": {"task": {"acc": 1}}, "name": "x", "list": [1]}"#;
        let numbers = [("acc", 0.5), ("n", 3.0), ("of.task.acc", 1.0)];
        assert_eq!(of(text).unwrap(), numbers.map(|(name, it)| (name.to_owned(), Some(it))).into());
    }

    #[test]
    fn what_holds_no_numbers_is_refused() {
        for (text, why) in [
            ("[1]", "no object"),
            ("{}", "no number"),
            (r#"{"acc": NaN}"#, "no JSON"),
            (r#"{"a\u001bb": 1}"#, "no name"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
