//! The folder in which one attempt at a stage writes. It lies in the cache's file system, so
//! that what it holds can be renamed into the store. What a crash leaves here nobody reads.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::CacheError;
use crate::error::IoContext;
use crate::owner::Process;

/// A fresh folder, removed on drop unless kept.
#[derive(Debug)]
pub struct Attempt(TempDir);

impl Attempt {
    pub(crate) fn new(parent: &Path) -> Result<Self, CacheError> {
        let prefix = format!("{}-", Process::own().tag());
        tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o770))
            .tempdir_in(parent)
            .map(Self)
            .doing("make a folder in", parent)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves the folder where it is, for whoever wants to look at a failure.
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }
}
