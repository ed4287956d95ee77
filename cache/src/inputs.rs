//! The user's own files: hashed where they lie, never stored. What was hashed before is known
//! by its stat, as git knows it; a file changed too recently to tell is hashed again.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::IoContext;
use crate::hashing::hash_file;
use crate::tree::{Folder, is_executable};
use crate::{Artifact, Cache, CacheError, Digest, Form, objects, tree};

/// Two writes within this time may carry the same time stamp.
const RACY_NS: i128 = 1_000_000_000;

/// A file as it was when its digest was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub path: PathBuf,
    pub bytes: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
    pub device: u64,
    #[serde(default)]
    pub executable: bool,
    pub digest: Digest,
}

impl Stat {
    /// Says whether the file still looks as it did.
    pub fn still_holds(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| {
            found.is_file() && *self == Self::new(&self.path, &found, self.digest)
        })
    }

    fn new(path: &Path, found: &Metadata, digest: Digest) -> Self {
        Self {
            path: path.to_owned(),
            bytes: found.len(),
            mtime_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
            device: found.dev(),
            executable: is_executable(found),
            digest,
        }
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}

impl Cache {
    /// Takes the digest of a user's file or folder without storing it.
    ///
    /// A folder's digest is the one it would have in the store, without what `ignore` leaves out. The stats say what
    /// was read.
    pub fn hash_path(
        &self,
        path: &Path,
        ignore: &[String],
    ) -> Result<(Artifact, Vec<Stat>), CacheError> {
        let kind = fs::symlink_metadata(path).doing("look at", path)?.file_type();
        // The stat cache outlives this process and its current folder.
        let absolute = std::path::absolute(path).doing("resolve", path)?;
        if kind.is_dir() {
            return self.hash_folder(self.user_files(&absolute, ignore)?, path);
        }
        let stat = self.hash_file(&absolute)?;
        Ok((stat.as_blob(), vec![stat]))
    }

    /// Says whether `path` is what `artifact` is, with nothing more in it.
    pub fn is_copy(&self, path: &Path, artifact: &Artifact) -> Result<bool, CacheError> {
        let absolute = std::path::absolute(path).doing("resolve", path)?;
        let found = match artifact.form {
            Form::Blob => self.hash_file(&absolute)?.as_blob(),
            Form::Tree => self.hash_folder(tree::walk(&absolute)?, path)?.0,
        };
        Ok(found == *artifact)
    }

    fn hash_folder(
        &self,
        found: Folder<PathBuf>,
        folder: &Path,
    ) -> Result<(Artifact, Vec<Stat>), CacheError> {
        let mut stats = Vec::new();
        let tree = found.map(|path| {
            let stat = self.hash_file(&path)?;
            let blob = stat.as_blob();
            stats.push(stat);
            Ok(blob)
        })?;
        let (artifact, _) = objects::manifest(&tree, folder)?;
        Ok((artifact, stats))
    }

    fn hash_file(&self, path: &Path) -> Result<Stat, CacheError> {
        let found = fs::symlink_metadata(path).doing("look at", path)?;
        if found.is_symlink() {
            return Err(CacheError::Symlink { path: path.to_owned() });
        }
        if !found.is_file() {
            return Err(CacheError::Special { path: path.to_owned() });
        }
        let key = path.to_str();
        if let Some(known) = key.and_then(|key| self.index().stat_get(key))
            && known == Stat::new(path, &found, known.digest)
        {
            return Ok(known);
        }
        let file = File::open(path).doing("open", path)?;
        let digest = match hash_file(&file, found.len()) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(CacheError::Changed { path: path.to_owned() });
            }
            hashed => hashed.doing("read", path)?,
        };
        let stat = Stat::new(path, &found, digest);
        if !stat.still_holds() {
            return Err(CacheError::Changed { path: path.to_owned() });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        let settled = i128::try_from(now).unwrap_or(0) - stat.ctime_ns.max(stat.mtime_ns);
        if let Some(key) = key
            && settled > RACY_NS
        {
            self.index().stat_put(key, &stat);
        }
        Ok(stat)
    }
}

impl Stat {
    fn as_blob(&self) -> Artifact {
        Artifact { executable: self.executable, ..Artifact::blob(self.digest, self.bytes) }
    }
}
