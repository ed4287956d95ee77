//! A stage's log: a file in the run's folder, and its last lines for the error message.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::secret::Mask;

const LAST_LINES: usize = 20;
const LONGEST_LINE: usize = 2_000;

/// Shared by whoever reads a process's output and whoever waits for the process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<File>,
    last: VecDeque<String>,
    partial: Vec<u8>,
}

impl Log {
    /// Sends what comes from now on to `path`.
    pub(crate) fn begin(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let mut inner = self.lock();
        *inner = Inner { file: Some(file), ..Inner::default() };
        Ok(())
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        let inner = self.lock();
        let partial = String::from_utf8_lossy(&inner.partial).into_owned();
        let rest = Some(partial).filter(|line| !line.is_empty());
        inner.last.iter().cloned().chain(rest).collect()
    }

    /// Copies a stream into the log until it ends, without what `mask` takes out.
    pub(crate) async fn drain(self, mut from: impl AsyncRead + Unpin, mut mask: Mask) {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.take(&mask.take(&buffer[..count], false));
        }
        self.take(&mask.take(&[], true));
    }

    fn take(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if let Some(file) = &mut inner.file
            && let Err(error) = file.write_all(bytes)
        {
            tracing::warn!(%error, "the stage's log cannot be written");
            inner.file = None;
        }
        for &byte in bytes {
            if byte == b'\n' || inner.partial.len() >= LONGEST_LINE {
                let line = std::mem::take(&mut inner.partial);
                inner.last.push_back(String::from_utf8_lossy(&line).into_owned());
                if inner.last.len() > LAST_LINES {
                    inner.last.pop_front();
                }
            }
            if byte != b'\n' {
                inner.partial.push(byte);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
