//! Lines of a text file, none longer than a row may be.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
};

use crate::artifact::dataset::MOST_ROW_BYTES;

pub(super) struct Lines {
    file: BufReader<File>,
    /// How many lines were read: the number of the last one.
    pub(super) number: u64,
}

impl Lines {
    pub(super) fn of(file: File) -> Self {
        Self { file: BufReader::new(file), number: 0 }
    }

    /// The next line, with what ends it; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        let mut bounded = (&mut self.file).take(MOST_ROW_BYTES + 1);
        bounded.read_until(b'\n', &mut bytes).map_err(|error| error.to_string())?;
        self.number += 1;
        if bytes.len() as u64 > MOST_ROW_BYTES {
            return Err(format!("the line is longer than {MOST_ROW_BYTES} bytes"));
        }
        // Windows' editors begin files with a mark.
        if self.number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}
