//! `gradus schema`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::plan::schema;

use super::common::kinds_here;
use crate::{failure::Failure, terminal::Terminal};

/// Print the JSON Schema of pipeline files, for editors
///
/// Save it, and begin a pipeline with `# yaml-language-server: $schema=FILE`: the editor then completes
/// kinds, parameters and inputs, and shows what each is for.
#[derive(Debug, Args)]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn exec(terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        terminal.schema(&schema(&kinds_here()?));
        Ok(ExitCode::SUCCESS)
    }
}
