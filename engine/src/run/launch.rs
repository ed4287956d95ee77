//! What is needed to start a worker: its program and libtorch.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{Libtorch, RunError, find_libtorch};

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

    /// The loader's search path with libtorch first.
    pub(super) fn library_path(&self) -> OsString {
        let old = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = self.libtorch.iter().map(|it| it.lib.clone()).chain(env::split_paths(&old));
        env::join_paths(folders).unwrap_or(old)
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
