//! What a run that found everything cached leaves for the next one: a small file per pipeline that says so.
//!
//! Opening sled costs more than looking at a hundred stages. While each stage is what this file says, the index
//! has nothing to learn; whoever notes something else in the index takes the file away first. A file that is
//! wrong or damaged costs a look into the index, or a word of an explanation.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::objects::shared_file;
use crate::{Fingerprint, Index};

/// Below the index's folder.
pub(crate) const FOLDER: &str = "settled";

impl Index {
    /// What the stages of `pipeline` are in the index, as far as that is known without opening it.
    pub fn settled(&self, pipeline: &str) -> BTreeMap<String, Fingerprint> {
        let read = fs::read(self.settled_file(pipeline)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Says that the index has noted these stages of `pipeline`.
    pub fn settle(&self, pipeline: &str, stages: &BTreeMap<String, Fingerprint>) {
        if let Err(error) = write(&self.settled_file(pipeline), stages) {
            tracing::debug!(%error, "what is settled cannot be written");
        }
    }

    /// Takes the file away; before the index learns something else.
    pub(crate) fn unsettle(&self, pipeline: &str) {
        // Mostly there is none.
        let _ = fs::remove_file(self.settled_file(pipeline));
    }

    fn settled_file(&self, pipeline: &str) -> PathBuf {
        let name = blake3::hash(pipeline.as_bytes()).to_hex();
        self.folder().join(FOLDER).join(&name[..32])
    }
}

fn write(path: &Path, stages: &BTreeMap<String, Fingerprint>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let mut file = shared_file(folder)?;
    file.write_all(&serde_json::to_vec(stages)?)?;
    file.persist(path)?;
    Ok(())
}
