//! CSV (RFC 4180): a line with the columns' names, then a record per row; quoted values may hold line ends.
//!
//! Read strictly: a quote that is never closed would swallow rows, and one closed inside a value would
//! change it. After either, nobody knows where the next row begins, so the reading ends there.

use std::fs::File;

use super::{
    lines::Lines,
    record::{Cell, Record, Records, twice, utf8},
};
use crate::artifact::dataset::MOST_ROW_BYTES;

/// Values of one record, and the line it begins in.
type Values = (u64, Vec<Vec<u8>>);

pub(super) fn records(file: File, separator: Option<&str>) -> Result<Records, String> {
    let separator = match separator.map(str::as_bytes) {
        None => b',',
        Some(&[separator]) if !b"\"\r\n".contains(&separator) => separator,
        Some(_) => return Err("the `separator` of a CSV file is one ASCII character".to_owned()),
    };
    let mut reader = Reader { lines: Lines::of(file), separator, ended: false };
    let names = match reader.record() {
        None => Vec::new(),
        Some(Ok((_, names))) => {
            let names = names.into_iter().map(|name| Ok(utf8(name)?.trim().to_owned()));
            names.collect::<Result<Vec<_>, String>>().map_err(|why| format!("row 1: {why}"))?
        }
        Some(Err((place, why))) => return Err(format!("row {place}: {why}")),
    };
    if let Some(name) = twice(&names) {
        return Err(format!("the column `{name}` stands there twice: give one another name"));
    }
    if let [only] = names.as_slice()
        && let Some(other) = [";", "\t", "|"].into_iter().find(|it| only.contains(it))
    {
        let (own, other) = (char::from(separator), other.escape_debug());
        return Err(format!(
            "its first line has no `{own}`, but `{other}`: say `separator: \"{other}\"`"
        ));
    }
    Ok(Box::new(std::iter::from_fn(move || {
        let record = reader.record()?;
        Some(record.and_then(|(place, values)| {
            let cells = cells(&names, values, separator).map_err(|why| (place, why))?;
            Ok(Record { place, cells })
        }))
    })))
}

fn cells(
    names: &[String],
    values: Vec<Vec<u8>>,
    separator: u8,
) -> Result<Vec<(String, Cell)>, String> {
    if values.len() != names.len() {
        return Err(format!(
            "it has {} values, and there are {} columns: put values that hold `{}` in quotes",
            values.len(),
            names.len(),
            char::from(separator)
        ));
    }
    let pairs = names.iter().zip(values);
    pairs.map(|(name, value)| Ok((name.clone(), Cell::Value(utf8(value)?.into())))).collect()
}

struct Reader {
    lines: Lines,
    separator: u8,
    ended: bool,
}

impl Reader {
    /// The next record; blank lines are none.
    fn record(&mut self) -> Option<Result<Values, (u64, String)>> {
        if self.ended {
            return None;
        }
        let record = self.read();
        self.ended = !matches!(record, Ok(Some(_)));
        record.transpose()
    }

    fn read(&mut self) -> Result<Option<Values>, (u64, String)> {
        let mut parts = Parts::of(self.separator);
        let mut place = 0;
        let mut length = 0;
        loop {
            let line = self.lines.next().map_err(|why| (self.lines.number, why))?;
            let Some(line) = line else {
                return match place {
                    0 => Ok(None),
                    _ => Err((place, "a quote is opened and never closed".to_owned())),
                };
            };
            if place == 0 && line.trim_ascii().is_empty() {
                continue;
            }
            length += line.len() as u64;
            if length > MOST_ROW_BYTES {
                let why = format!("longer than {MOST_ROW_BYTES} bytes: is a quote not closed?");
                return Err((self.lines.number, why));
            }
            if place == 0 {
                place = self.lines.number;
            }
            if parts.take(&line).map_err(|why| (self.lines.number, why))? {
                return Ok(Some((place, parts.values)));
            }
        }
    }
}

/// A record taken apart, line by line.
struct Parts {
    separator: u8,
    values: Vec<Vec<u8>>,
    value: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// At the beginning of a value.
    Start,
    /// In a value without quotes.
    Bare,
    /// In a value with quotes.
    Quoted,
    /// Behind a quote in such a value: its end, unless another quote follows.
    Closed,
}

impl Parts {
    fn of(separator: u8) -> Self {
        Self { separator, values: Vec::new(), value: Vec::new(), state: State::Start }
    }

    /// Takes a line with what ends it; says whether the record ends there.
    fn take(&mut self, line: &[u8]) -> Result<bool, String> {
        for (at, &byte) in line.iter().enumerate() {
            let ends = &line[at..] == b"\n" || &line[at..] == b"\r\n";
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Closed,
                (State::Start, b'"') => State::Quoted,
                (State::Quoted, _) | (State::Closed, b'"') => self.keep(byte, State::Quoted),
                _ if ends => return Ok(self.end()),
                (_, byte) if byte == self.separator => {
                    self.values.push(std::mem::take(&mut self.value));
                    State::Start
                }
                (State::Closed, _) => {
                    return Err(format!(
                        "a quote is closed inside a value (at {}): write quotes inside quotes \
                         twice, as `\"\"`",
                        at + 1
                    ));
                }
                (State::Start | State::Bare, b'\r') => {
                    return Err(
                        "a carriage return that ends no line: put the value in quotes".into()
                    );
                }
                (State::Start | State::Bare, _) => self.keep(byte, State::Bare),
            };
        }
        // The last line of a file may have no end.
        let open = self.state == State::Quoted;
        Ok(!open && self.end())
    }

    fn keep(&mut self, byte: u8, state: State) -> State {
        self.value.push(byte);
        state
    }

    fn end(&mut self) -> bool {
        self.values.push(std::mem::take(&mut self.value));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Result<Vec<String>, String> {
        let mut parts = Parts::of(b',');
        for line in text.split_inclusive('\n') {
            if parts.take(line.as_bytes())? {
                return Ok(parts.values.into_iter().map(|it| utf8(it).unwrap()).collect());
            }
        }
        Err("open".to_owned())
    }

    #[test]
    fn a_record_is_taken_apart_at_separators_and_line_ends_outside_of_quotes() {
        for end in ["", "\n", "\r\n"] {
            let parts = |text: &str| record(&format!("{text}{end}")).unwrap();
            assert_eq!(parts("a,b"), ["a", "b"]);
            assert_eq!(parts("\"a, b\",\"c\r\nd\""), ["a, b", "c\r\nd"]);
            assert_eq!(parts("\"say \"\"hi\"\"\","), ["say \"hi\"", ""]);
            assert_eq!(parts("5\" nails,\"\""), ["5\" nails", ""]);
        }
    }

    #[test]
    fn what_changes_a_value_or_swallows_rows_is_refused() {
        assert_eq!(record("a,\"b\nc,d\n").unwrap_err(), "open");
        insta::assert_snapshot!(record("\"say \"hi\" to\",b\n").unwrap_err(), @r#"a quote is closed inside a value (at 7): write quotes inside quotes twice, as `""`"#);
        insta::assert_snapshot!(record("a\rb,c\n").unwrap_err(), @"a carriage return that ends no line: put the value in quotes");
    }
}
