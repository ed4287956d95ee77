//! Plain text: a file is one document, or several with a separator between them.

use std::{
    fs::File,
    io::{Read, Seek},
};

use super::record::{Cell, Record, Records, utf8};

/// A column `text` with a document each, blank ones among them.
pub(super) fn records(mut file: File, separator: Option<&str>) -> Result<Records, String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    let text = utf8(bytes)?;
    let text = text.trim_start_matches('\u{feff}');
    let documents = match separator {
        None => vec![text],
        Some("") => return Err("`separator` is empty: leave it out".to_owned()),
        Some(separator) if !text.contains(separator) && text.contains("\r\n") => {
            return Err(format!(
                "`separator` does not occur in it, and its lines end in `\\r\\n`, as Windows ends \
                 them: convert them, or write it as `{}`",
                separator.replace('\n', "\r\n").escape_debug()
            ));
        }
        // What stands behind the last document ends it.
        Some(separator) => text.strip_suffix(separator).unwrap_or(text).split(separator).collect(),
    };
    let mut line = 1;
    let records: Vec<_> = documents
        .into_iter()
        .map(|document| {
            let place = line;
            let ends = |text: &str| text.matches('\n').count() as u64;
            line += ends(document) + separator.map_or(0, ends);
            let cell = Cell::Value(document.into());
            Ok(Record { place, cells: vec![("text".to_owned(), cell)] })
        })
        .collect();
    Ok(Box::new(records.into_iter()))
}
