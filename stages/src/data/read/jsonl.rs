//! JSON Lines: an object per line; blank lines are no rows.

use std::fs::File;

use super::{
    lines::Lines,
    record::{Cell, Record, Records, utf8},
};
use crate::artifact::json;

pub(super) fn records(file: File) -> Records {
    let mut lines = Lines::of(file);
    let mut ended = false;
    Box::new(std::iter::from_fn(move || {
        while !ended {
            match lines.next() {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => {
                    let place = lines.number;
                    let cells = cells(line).map_err(|why| (place, why));
                    return Some(cells.map(|cells| Record { place, cells }));
                }
                Ok(None) => ended = true,
                Err(why) => {
                    // The rest of a line that is too long is no line.
                    ended = true;
                    return Some(Err((lines.number, why)));
                }
            }
        }
        None
    }))
}

fn cells(line: Vec<u8>) -> Result<Vec<(String, Cell)>, String> {
    let line = utf8(line)?;
    let object = json::object(line.trim().as_bytes())?
        .ok_or("not a JSON object: each line is one, like `{\"text\": \"…\"}`")?;
    Ok(object.into_iter().map(|(name, value)| (name, Cell::Value(value))).collect())
}
