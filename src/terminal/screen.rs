//! The terminal that every command is given.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use serde::Serialize;
use serde_json::json;

use super::{
    chart::Drawing,
    format::Format,
    paint::{Paint, harmless},
    streams::{complain, print},
    width::{fitted, of_stderr, of_stdout},
};

pub(crate) struct Terminal {
    pub(super) json: bool,
    pub(super) csv: bool,
    pub(super) out: Paint,
    pub(super) err: Paint,
}

impl Terminal {
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: format == Format::Json,
            csv: format == Format::Csv,
            out: Paint { colour: !plain && io::stdout().is_terminal() },
            err: Paint { colour: !plain && io::stderr().is_terminal() },
        }
    }

    /// Whether results are to be comma-separated values.
    pub(crate) fn wants_tables(&self) -> bool {
        self.csv
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints to stdout; a reader that went away (`| head`) ends the program quietly.
    #[expect(clippy::unused_self, reason = "whoever prints has been given the terminal")]
    pub(crate) fn text(&self, text: &str) {
        print(text);
    }

    #[expect(clippy::unused_self, reason = "as for `text`")]
    pub(super) fn line(&self, line: &str) {
        print(&format!("{}\n", fitted(line, of_stdout())));
    }

    pub(super) fn value(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(&text);
    }

    /// Curves of one metric; `svg` and `png` are where they were written as pictures.
    pub(crate) fn curves(&self, drawing: &Drawing, svg: Option<&Path>, png: Option<&Path>) {
        if self.json {
            let rows = drawing.curves.iter();
            let rows = rows.map(|it| json!({ "stage": it.name, "run": it.run, "metric": it.metric, "points": it.points }));
            let rows: Vec<_> = rows.collect();
            let metric = &drawing.metric;
            return self
                .value(&json!({ "metric": metric, "curves": rows, "svg": svg, "png": png }));
        }
        self.text(&drawing.figure().letters());
        for file in svg.into_iter().chain(png) {
            self.line(&format!("→ {}", file.display()));
        }
    }

    /// Says that a watch waits now.
    pub(crate) fn watching(&self, count: usize) {
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        self.aside(&format!("watching {files}; Ctrl-C ends"));
    }

    /// Says why a watch runs again.
    pub(crate) fn saved(&self, path: &Path) {
        self.aside(&format!("\n{} was saved", path.display()));
    }

    /// What did not go as it should, beside the results.
    pub(crate) fn warnings(&self, warnings: &[String]) {
        if !self.json {
            for words in warnings {
                complain(&(fitted(&self.err.yellow(&harmless(words)), of_stderr()) + "\n"));
            }
        }
    }

    /// A line for people beside the results.
    pub(super) fn aside(&self, words: &str) {
        if !self.json {
            complain(&(fitted(&self.err.dim(words), of_stderr()) + "\n"));
        }
    }

    pub(crate) fn log(&self, text: &str) {
        if self.json {
            self.value(&json!({ "log": text }));
        } else {
            self.text(text);
        }
    }
}
