//! What went wrong, with its place where it has one.

use std::{fmt::Write as _, process::ExitCode};

use gradus_engine::spec::{Mistake, Mistakes};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use super::{
    screen::Terminal,
    streams::complain,
    width::{fitted, of_stderr},
};
use crate::failure::Failure;

/// A wider terminal is not filled: nobody reads longer lines.
const WIDEST: usize = 100;
/// Where there is no terminal a sentence stays on its line, for whoever looks for it there.
const UNBROKEN: usize = 10_000;

impl Terminal {
    /// Prints a failure to stderr; the exit code says whose fault it is.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        if self.json {
            self.value(&as_json(failure));
        }
        let red = |text: &str| self.err.red(text);
        match failure {
            Failure::Mistakes(mistakes) => {
                if !self.json {
                    complain(&render(mistakes, self.err.colour));
                }
                ExitCode::from(1)
            }
            Failure::Refused { message, help } => {
                if !self.json {
                    let columns = of_stderr();
                    let line = format!("{} {message}", red("error:"));
                    complain(&(fitted(&line, columns) + "\n"));
                    if let Some(help) = help {
                        let line = format!("  {} {help}", self.err.dim("help:"));
                        complain(&(fitted(&line, columns) + "\n"));
                    }
                }
                ExitCode::from(1)
            }
            Failure::Engine(error) => {
                if !self.json {
                    let line = format!("{} {}", red("error:"), error.full());
                    complain(&(fitted(&line, of_stderr()) + "\n"));
                }
                ExitCode::from(2)
            }
        }
    }
}

pub(super) fn render(mistakes: &Mistakes, colour: bool) -> String {
    let mut text = render_all(&mistakes.list, colour);
    if mistakes.list.len() > 1 {
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "{mistakes}");
    }
    text
}

pub(super) fn render_all(list: &[Mistake], colour: bool) -> String {
    let width = of_stderr().map_or(UNBROKEN, |columns| columns.min(WIDEST));
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(width);
    let mut text = String::new();
    for mistake in list {
        // Writing into a `String` cannot fail.
        let _ = handler.render_report(&mut text, mistake);
        if mistake.source_code().is_none()
            && let Some((file, line, column)) = mistake.place()
        {
            let _ = writeln!(text, "  at {file}:{line}:{column}");
        }
        text.push('\n');
    }
    text
}

fn as_json(failure: &Failure) -> serde_json::Value {
    match failure {
        Failure::Mistakes(mistakes) => {
            json!({ "mistakes": list(&mistakes.list) })
        }
        Failure::Refused { message, help } => json!({ "error": message, "help": help }),
        Failure::Engine(error) => json!({ "error": error.full() }),
    }
}

/// Every mistake with its code and place.
pub(super) fn list(mistakes: &[Mistake]) -> Vec<serde_json::Value> {
    mistakes.iter().map(mistake).collect()
}

fn mistake(mistake: &Mistake) -> serde_json::Value {
    let place = mistake.place();
    json!({
        "code": mistake.code().map(|code| code.to_string()),
        "message": mistake.to_string(),
        "help": mistake.help().map(|help| help.to_string()),
        "file": place.as_ref().map(|place| &place.0),
        "line": place.as_ref().map(|place| place.1),
        "column": place.as_ref().map(|place| place.2),
    })
}
