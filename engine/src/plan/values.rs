//! Values of keys that say how a stage is carried out.

use std::time::Duration;

use crate::spec::{Data, Node, Problem, duration};

pub(super) type Read<T> = Result<T, Box<Problem>>;

pub(super) fn time(what: &str, value: &Node) -> Read<Duration> {
    if !matches!(value.data, Data::Number(_) | Data::Text(_)) {
        return wrong_type(what, "a time like `90s`, `10m` or `2h`", value);
    }
    let rule = "a time like `90s`, `10m` or `2h`, at most a year".to_owned();
    duration(value).map_or_else(|| out_of_range(what, rule, value), Ok)
}

pub(super) fn wrong_type<T>(what: &str, expected: &str, value: &Node) -> Read<T> {
    let (what, expected) = (format!("`{what}`"), expected.to_owned());
    Err(Box::new(Problem::WrongType { what, expected, found: value.sort().to_owned() }))
}

pub(super) fn out_of_range<T>(what: &str, rule: String, value: &Node) -> Read<T> {
    let what = format!("`{what}`");
    Err(Box::new(Problem::OutOfRange { what, rule, found: value.described(), nearest: None }))
}
