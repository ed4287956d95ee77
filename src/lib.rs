//! The command line of Gradus. Everything that is printed goes through `terminal`.

mod cli;
mod commands;
mod failure;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::Cli,
    failure::Failure,
    terminal::{Format, Terminal},
};

/// Runs the program: 0 done, 1 the pipeline or a stage is at fault, 2 gradus could not work.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure, but come the same way; clap knows where to print.
            let failed = error.use_stderr();
            let printed = error.print().is_ok();
            return ExitCode::from(if failed || !printed { 2 } else { 0 });
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("GRADUS_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let mut terminal = Terminal::new(cli.format);
    if cli.format == Format::Csv && !cli.command.makes_tables() {
        return terminal.failure(&Failure::refused(
            "`--format csv` is for tables",
            "`gradus runs --columns NAME,…` and `gradus show PIPELINE STAGE` make some",
        ));
    }
    match cli.command.exec(&mut terminal) {
        Ok(code) => code,
        Err(failure) => terminal.failure(&failure),
    }
}
