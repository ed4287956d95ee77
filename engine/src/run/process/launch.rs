//! What is needed to start a worker: its program, and for gradus' own libtorch.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use gradus_protocol::catalog::Catalog;
use tokio::process::Command;

use super::libtorch::{Libtorch, find_libtorch};
use crate::{error::RunError, plugin::Plugin};

const PROGRAM: &str = "gradus-worker";

/// A worker program and the library it runs on.
#[derive(Debug, Clone)]
pub struct Toolchain {
    pub worker: PathBuf,
    /// `None` where the worker brings its own (a test's).
    pub libtorch: Option<Libtorch>,
}

impl Toolchain {
    pub fn find(project: &Path) -> Result<Self, RunError> {
        let worker = find_worker()?;
        // A worker named by hand may need no libtorch at all, and says so itself if it does.
        let named = env::var_os("GRADUS_WORKER").is_some();
        let libtorch = match find_libtorch(project) {
            Ok(found) => Some(found),
            Err(_) if named => None,
            Err(error) => return Err(error),
        };
        Ok(Self { worker, libtorch })
    }

    /// How gradus' own worker is started.
    pub(crate) fn launch(&self, catalog: &Catalog) -> Launch {
        let mut command = Command::new(&self.worker);
        if env::var_os("OMP_WAIT_POLICY").is_none() {
            // Threads that spin while they wait halve the speed as soon as cores are shared.
            command.env("OMP_WAIT_POLICY", "passive");
        }
        command
            .env("LD_LIBRARY_PATH", self.library_path())
            // One set of instructions on every x86 machine, so that sums come out the same.
            .env("ATEN_CPU_CAPABILITY", "avx2")
            .env("ONEDNN_MAX_CPU_ISA", "AVX2")
            .env("MKL_CBWR", "AVX2")
            // cuBLAS is deterministic only with a workspace of its own.
            .env("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
        Launch {
            command,
            name: "the worker".to_owned(),
            catalog: catalog.clone(),
            outdated: "build both anew".to_owned(),
            renew: "build both anew (make build)".to_owned(),
        }
    }

    /// The loader's search path with libtorch first.
    fn library_path(&self) -> OsString {
        let old = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = self.libtorch.iter().map(|it| it.lib.clone()).chain(env::split_paths(&old));
        env::join_paths(folders).unwrap_or(old)
    }
}

/// How a worker is started, and what it must say of itself then.
pub(crate) struct Launch {
    pub(crate) command: Command,
    /// In messages.
    pub(crate) name: String,
    pub(crate) catalog: Catalog,
    /// What to do where the worker speaks another version.
    pub(crate) outdated: String,
    /// What to do where it knows other kinds than gradus.
    pub(crate) renew: String,
}

impl Plugin {
    pub(crate) fn launch(&self) -> Launch {
        let mut command = Command::new(self.program());
        command.args(&self.command[1..]).current_dir(&self.folder);
        // Python would put files beside its sources, and they would be others from then on.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Launch {
            command,
            name: format!("the worker `{}`", self.name),
            catalog: self.catalog.clone(),
            outdated: "it must follow docs/protocol.md of this version".to_owned(),
            renew: format!("write `{}` anew from what it shows", self.catalog_file.display()),
        }
    }
}

/// `GRADUS_WORKER`, else beside this program, else on the `PATH`.
pub fn find_worker() -> Result<PathBuf, RunError> {
    if let Some(named) = env::var_os("GRADUS_WORKER") {
        let named = PathBuf::from(named);
        if !named.is_file() {
            let words = "which `GRADUS_WORKER` names, is not there";
            return Err(RunError::Setup(format!("the worker `{}`, {words}", named.display())));
        }
        return Ok(named);
    }
    let beside = env::current_exe().ok().and_then(|own| own.canonicalize().ok());
    // Tests run from `target/PROFILE/deps`, one folder below the worker.
    let beside = beside.iter().flat_map(|own| own.ancestors().skip(1).take(2).map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            RunError::Setup(format!(
                "the worker `{PROGRAM}` is neither beside gradus nor on the PATH; `make build` builds it"
            ))
        })
}
