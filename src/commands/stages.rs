//! `gradus stages`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use gradus_engine::{plan::exec_kind, spec::nearest};

use super::common::kinds_here;
use crate::{failure::Failure, terminal::Terminal};

/// List the stage kinds, or document one
#[derive(Debug, Args)]
pub(crate) struct Stages {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Document one kind: its parameters and ports
    Show {
        #[arg(value_name = "KIND")]
        kind: String,
    },
}

impl Stages {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let mut kinds = kinds_here()?.kinds;
        kinds.push(exec_kind());
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        match self.what {
            None => terminal.kinds(&kinds),
            Some(What::Show { kind: wanted }) => {
                let Some(kind) = kinds.iter().find(|kind| kind.kind == wanted) else {
                    let names = kinds.iter().map(|kind| kind.kind.as_str());
                    let help = nearest(&wanted, names).map_or_else(
                        || "`gradus stages` lists them".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    return Err(Failure::refused(format!("there is no kind `{wanted}`"), help));
                };
                terminal.kind(kind);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
