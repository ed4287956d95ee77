//! `gradus pin`.

use std::process::ExitCode;

use clap::Args;
use gradus_engine::run::pin;

use super::common::CacheArgs;
use crate::{failure::Failure, terminal::Terminal};

/// Keep a run and all that it uses from every sweep
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The run's name, as `gradus show` says it
    #[arg(value_name = "RUN")]
    run: String,
    /// Let go of it again
    #[arg(long)]
    unpin: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Pin {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let cache = self.cache.open()?;
        if !pin(&cache, &self.run, !self.unpin)? {
            let message = format!("there is no run `{}` in this cache", self.run);
            return Err(Failure::refused(message, "`gradus show PIPELINE` names the last one"));
        }
        terminal.pinned(&self.run, !self.unpin);
        Ok(ExitCode::SUCCESS)
    }
}
