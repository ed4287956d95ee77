//! Stdout and stderr, whose readers may go away.

use std::io::{self, Write};

pub(super) fn print(text: &str) {
    if io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// A stderr that nobody reads any more is no reason to stop.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
