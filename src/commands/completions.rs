//! `gradus completions`.

use std::process::ExitCode;

use clap::Args;

use crate::{failure::Failure, terminal::Terminal};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    #[arg(value_enum, value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    #[expect(clippy::unnecessary_wraps, reason = "every command has this signature")]
    pub(crate) fn exec(
        self,
        mut program: clap::Command,
        terminal: &mut Terminal,
    ) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "gradus", &mut script);
        terminal.text(&String::from_utf8_lossy(&script));
        Ok(ExitCode::SUCCESS)
    }
}
