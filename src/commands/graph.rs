//! `gradus graph`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use gradus_engine::plan::{Drawing, draw};

use super::common::PipelineArgs;
use crate::{failure::Failure, terminal::Terminal};

/// Draw a pipeline's stages and what they take from each other
#[derive(Debug, Args)]
pub(crate) struct Graph {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// The language of the drawing
    #[arg(long = "as", value_enum, default_value_t = As::Text, value_name = "LANGUAGE")]
    language: As,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum As {
    Text,
    Mermaid,
    Dot,
}

impl Graph {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let drawing = match self.language {
            As::Text => Drawing::Text,
            As::Mermaid => Drawing::Mermaid,
            As::Dot => Drawing::Dot,
        };
        terminal.graph(&plan, &draw(&plan, drawing));
        Ok(ExitCode::SUCCESS)
    }
}
