//! The words of the command line: one variant per command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    commands,
    failure::Failure,
    terminal::{Format, Terminal},
};

/// Declarative experiments in learning from feedback
#[derive(Debug, Parser)]
#[command(name = "gradus", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(commands::Init),
    Run(commands::Run),
    Rerun(commands::Rerun),
    Rehearse(commands::Rehearse),
    Watch(commands::Watch),
    Test(commands::Test),
    Plan(commands::Plan),
    Explain(commands::Explain),
    Check(commands::Check),
    Graph(commands::Graph),
    Freeze(commands::Freeze),
    Stages(commands::Stages),
    Schema(commands::Schema),
    Show(commands::Show),
    Logs(commands::Logs),
    Runs(commands::Runs),
    Diff(commands::Diff),
    Lineage(commands::Lineage),
    Export(commands::Export),
    Cache(commands::Cache),
    Sweep(commands::Sweep),
    Pin(commands::Pin),
    Doctor(commands::Doctor),
    Completions(commands::Completions),
}

impl Command {
    /// Whether it can print a table.
    pub(crate) fn makes_tables(&self) -> bool {
        match self {
            Self::Runs(it) => it.is_table(),
            Self::Show(it) => it.is_table(),
            _ => false,
        }
    }

    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(it) => it.exec(terminal),
            Self::Run(it) => it.exec(terminal),
            Self::Rerun(it) => it.exec(terminal),
            Self::Rehearse(it) => it.exec(terminal),
            Self::Watch(it) => it.exec(terminal),
            Self::Test(it) => it.exec(terminal),
            Self::Plan(it) => it.exec(terminal),
            Self::Explain(it) => it.exec(terminal),
            Self::Check(it) => it.exec(terminal),
            Self::Graph(it) => it.exec(terminal),
            Self::Freeze(it) => it.exec(terminal),
            Self::Stages(it) => it.exec(terminal),
            Self::Schema(commands::Schema {}) => commands::Schema::exec(terminal),
            Self::Show(it) => it.exec(terminal),
            Self::Logs(it) => it.exec(terminal),
            Self::Runs(it) => it.exec(terminal),
            Self::Diff(it) => it.exec(terminal),
            Self::Lineage(it) => it.exec(terminal),
            Self::Export(it) => it.exec(terminal),
            Self::Cache(it) => it.exec(terminal),
            Self::Sweep(it) => it.exec(terminal),
            Self::Pin(it) => it.exec(terminal),
            Self::Doctor(it) => it.exec(terminal),
            Self::Completions(it) => it.exec(Cli::command(), terminal),
        }
    }
}
