//! Artifacts by content, and which stage made them.
//!
//! [`objects`] holds bytes named by their own [`Digest`]; [`memo`] maps the
//! [`Fingerprint`] of a stage to the digests it produced. Bytes go in first and
//! the memo last, so a crash can lose work but never remember missing bytes.
//! Files are the truth; [`Index`] only makes some answers quick.

mod arrivals;
mod attempt;
mod digest;
mod error;
#[cfg(test)]
mod faults;
mod hashing;
mod index;
mod inputs;
mod lease;
mod memo;
mod objects;
mod owner;
mod settled;
mod sweep;
mod tree;
mod user_files;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

pub use arrivals::{Arrival, Arrivals, Promised};
pub use attempt::Attempt;
pub use digest::{Digest, Fingerprint, ParseHashError, shard};
pub use error::{CacheError, MAKE_SPACE};
pub use index::Index;
pub use inputs::Stat;
pub use lease::{Claim, Lease, Owner, SILENT_FOR};
pub use memo::{Action, MOST_BYTES as MOST_ACTION_BYTES, Record};
pub use owner::Process;
pub use sweep::{Count, Limits, Swept, bytes_below};
pub use tree::{Folder, MOST_BYTES as MOST_MANIFEST_BYTES, MOST_FILES};
pub use user_files::check_pattern;
pub use verify::Verified;

use error::IoContext;

/// The layout below the root; another number is another layout.
const FORMAT: &str = "gradus cache 1\n";
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is a cache made by gradus. See https://bford.info/cachedir/\n";

/// Whether an artifact is one file or a folder of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Blob,
    Tree,
}

/// What a stage handed on: the digest of a file, or of a folder's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    pub digest: Digest,
    pub form: Form,
    /// The size of the file, or of all files of the folder together.
    pub bytes: u64,
    /// Whether it is a file that its owner may run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Artifact {
    /// A file that is not to be run.
    pub fn blob(digest: Digest, bytes: u64) -> Self {
        Self { digest, form: Form::Blob, bytes, executable: false }
    }
}

/// A store of artifacts under one folder; clones share it.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    index: Index,
    /// Blobs whose content this process has seen to be right, and their stamp then.
    seen: Mutex<HashMap<Digest, objects::Stamp>>,
}

impl Cache {
    /// Opens the cache at `root`, making it when there is none.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        for folder in ["blobs", "actions", "attempts", "leases", "quarantine", "index"] {
            let path = root.join(folder);
            match fs::create_dir_all(&path).doing("make", &path) {
                // Made by an older version, and nothing will be written there.
                Err(CacheError::ReadOnly { .. }) if root.join("format").exists() => {}
                made => made?,
            }
        }
        // Renames and worker processes need paths that do not depend on the current folder.
        let root = root.canonicalize().doing("resolve", root)?;
        check_format(&root)?;
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Only tells backups what this is.
            let _ = fs::write(&tag, CACHEDIR_TAG);
        }
        let index = Index::new(&root.join("index"));
        Ok(Self(Arc::new(Inner { root, index, seen: Mutex::default() })))
    }

    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The quick and forgetful part: explanations, stats of input files.
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// Makes a fresh folder in the cache's file system for one attempt at a stage.
    pub fn attempt(&self) -> Result<Attempt, CacheError> {
        Attempt::new(&self.0.root.join("attempts"))
    }

    /// Returns what was committed under `fingerprint`, unless any of it is gone, or damaged as far as
    /// [`Cache::verify`] looks.
    pub fn recall(&self, fingerprint: &Fingerprint) -> Result<Option<Action>, CacheError> {
        let Some((action, found)) = self.look_up(fingerprint)? else { return Ok(None) };
        for artifact in action.outputs.values() {
            if !self.verify(artifact)? {
                return Ok(None);
            }
        }
        objects::touch(&self.action_path(fingerprint), &found);
        Ok(Some(action))
    }

    /// Takes in the files and folders of `staged`, then remembers them as what
    /// `fingerprint` made.
    ///
    /// Moves what is staged into the store where it can: staged paths may be gone afterwards.
    pub fn commit(
        &self,
        fingerprint: &Fingerprint,
        staged: &BTreeMap<String, PathBuf>,
        record: &impl Serialize,
    ) -> Result<Action, CacheError> {
        let outputs = self.store(staged)?;
        let record = Record::of(record)?;
        let action = Action { fingerprint: *fingerprint, outputs, record };
        self.write_action(&action)?;
        Ok(action)
    }

    /// Where a stage keeps its state while it runs; only the stage itself makes and reads it.
    pub fn checkpoints(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.0.root.join("checkpoints").join(digest::shard(fingerprint))
    }

    /// Where stages keep what they compute row by row; only they make and read it.
    pub fn ledger(&self) -> PathBuf {
        self.0.root.join("ledger")
    }

    /// Lets go of the state that a stage kept.
    pub fn drop_checkpoints(&self, fingerprint: &Fingerprint) -> Result<(), CacheError> {
        let folder = self.checkpoints(fingerprint);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing("remove", &folder)
            }
            _ => Ok(()),
        }
    }

    /// Says whether the disk has no room for even a small file.
    pub fn is_full(&self) -> bool {
        objects::room(&self.0.root).is_some_and(|bytes| bytes < 64 << 10)
    }

    fn quarantine(&self) -> PathBuf {
        self.0.root.join("quarantine")
    }
}

fn check_format(root: &Path) -> Result<(), CacheError> {
    let path = root.join("format");
    match fs::read(&path) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = found[..found.len().min(40)].trim_ascii();
            let found = String::from_utf8_lossy(found).escape_debug().to_string();
            Err(CacheError::Format { path, found, wanted: FORMAT.trim_end() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            objects::write_durably(&root.join("attempts"), &path, FORMAT.as_bytes())
        }
        Err(error) => Err(error).doing("read", &path),
    }
}
