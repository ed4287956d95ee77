//! `gradus init`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gradus_engine::run::RunError;

use crate::{failure::Failure, terminal::Terminal};

const FILES: [(&str, &str); 3] = [
    ("gradus.toml", include_str!("gradus.toml")),
    ("pipeline.yaml", include_str!("pipeline.yaml")),
    (".gitignore", "/.gradus/\n"),
];

/// Make a project: `gradus.toml`, a small pipeline that runs, and a `.gitignore`
///
/// What is there already stays as it is.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The project's folder, which is made if it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

impl Init {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let failed = |path: &Path| {
            let words = format!("`{}` cannot be written", path.display());
            move |error| RunError::Setup(format!("{words}: {error}"))
        };
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let mut made = Vec::new();
        for (name, text) in FILES {
            let path = self.folder.join(name);
            let path = path.strip_prefix(".").map_or(path.clone(), Path::to_owned);
            let written = OpenOptions::new().write(true).create_new(true).open(&path);
            match written.and_then(|mut file| file.write_all(text.as_bytes())) {
                Ok(()) => made.push((path, true)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    made.push((path, false));
                }
                Err(error) => return Err(failed(&path)(error).into()),
            }
        }
        terminal.project_made(&made);
        Ok(ExitCode::SUCCESS)
    }
}
