//! Bytes from elsewhere on their way into the store. They wait in a folder of their own, hashed as they
//! come; nothing is placed before all of it is there, and the action comes last.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::error::IoContext;
use crate::objects::Staged;
use crate::tree::Folder;
use crate::{Artifact, Attempt, Cache, CacheError, Digest, Fingerprint, objects, tree};

/// All that one action needs.
#[derive(Debug)]
pub struct Arrivals {
    cache: Cache,
    scratch: Attempt,
    whole: Mutex<HashMap<Digest, PathBuf>>,
}

/// How large a file that comes in may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promised {
    Exactly(u64),
    AtMost(u64),
}

impl Promised {
    pub fn most(self) -> u64 {
        let (Self::Exactly(bytes) | Self::AtMost(bytes)) = self;
        bytes
    }
}

/// One file that is coming in.
#[derive(Debug)]
pub struct Arrival {
    file: File,
    path: PathBuf,
    hasher: Box<blake3::Hasher>,
    digest: Digest,
    promised: Promised,
    /// How much of it is still to come.
    room: u64,
}

impl Cache {
    pub fn arrivals(&self) -> Result<Arrivals, CacheError> {
        let scratch = self.attempt()?;
        Ok(Arrivals { cache: self.clone(), scratch, whole: Mutex::default() })
    }
}

impl Arrivals {
    /// Says whether the store has this file already, sound to the last byte.
    pub fn has(&self, digest: &Digest, bytes: u64) -> Result<bool, CacheError> {
        // Of another size, it is the promise that is wrong: nothing to set aside here.
        let path = self.cache.file(digest);
        if fs::metadata(path).is_ok_and(|found| found.len() != bytes) {
            return Ok(false);
        }
        let wanted = Artifact::blob(*digest, bytes);
        self.cache.verify_fully(&wanted)
    }

    /// Begins to take in the file of `digest`.
    pub fn begin(&self, digest: &Digest, promised: Promised) -> Result<Arrival, CacheError> {
        let path = self.scratch.path().join(digest.to_string());
        let file = File::create(&path).doing("write", &path)?;
        let (hasher, room) = (Box::default(), promised.most());
        Ok(Arrival { file, path, hasher, digest: *digest, promised, room })
    }

    /// Ends it. `false`, and nothing is taken in, if these are not the bytes that were promised.
    pub fn end(&self, arrival: Arrival) -> bool {
        let complete = arrival.room == 0 || matches!(arrival.promised, Promised::AtMost(_));
        let whole = complete && Digest::from(arrival.hasher.finalize()) == arrival.digest;
        if whole {
            self.whole().insert(arrival.digest, arrival.path);
        }
        whole
    }

    /// What a folder holds whose manifest has come in, or was in the store before.
    pub fn tree(&self, folder: &Artifact) -> Result<Folder<Artifact>, CacheError> {
        let arrived = self.whole().get(&folder.digest).cloned();
        let found = match arrived {
            Some(path) => {
                let bytes = fs::read(&path).doing("read", &path)?;
                let digest = folder.digest;
                tree::parse(&bytes, &digest).map_err(|why| CacheError::Manifest { digest, why })?
            }
            None => self.cache.tree(&folder.digest)?,
        };
        if tree::total(&found.files) != Some(folder.bytes) {
            let why = "its files have another size than was said".to_owned();
            return Err(CacheError::Manifest { digest: folder.digest, why });
        }
        Ok(found)
    }

    /// Places everything that came in, and then remembers the action whose file is `written`.
    pub fn remember(self, written: &[u8], wanted: &Fingerprint) -> Result<(), CacheError> {
        let whole = std::mem::take(&mut *self.whole());
        let staged = whole.into_iter().map(|(digest, source)| Staged { source, digest });
        self.cache.place(staged.collect())?;
        let path = self.cache.action_path(wanted);
        objects::write_durably(self.scratch.path(), &path, written)
    }

    fn whole(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, PathBuf>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Takes the next piece. `false`, and nothing is written, if it is more than was promised.
    pub fn take(&mut self, piece: &[u8]) -> Result<bool, CacheError> {
        let Some(room) = self.room.checked_sub(piece.len() as u64) else { return Ok(false) };
        self.room = room;
        self.hasher.update(piece);
        self.file.write_all(piece).doing("write", &self.path)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    fn bring(arrivals: &Arrivals, digest: &Digest, bytes: &[u8]) -> bool {
        let mut arrival = arrivals.begin(digest, Promised::Exactly(bytes.len() as u64)).unwrap();
        assert!(arrival.take(bytes).unwrap());
        arrivals.end(arrival)
    }

    #[test]
    fn what_has_another_digest_or_size_does_not_come_in() {
        let (_folder, cache) = cache();
        let arrivals = cache.arrivals().unwrap();
        assert!(!bring(&arrivals, &Digest::of(b"a"), b"b"));
        let short = arrivals.begin(&Digest::of(b"a"), Promised::Exactly(2));
        let mut short = short.unwrap();
        assert!(short.take(b"a").unwrap() && !arrivals.end(short));
        let mut long = arrivals.begin(&Digest::of(b"ab"), Promised::AtMost(1)).unwrap();
        assert!(!long.take(b"ab").unwrap());
        arrivals.remember(b"", &Fingerprint::of(b"f")).unwrap();
        assert!(!cache.file(&Digest::of(b"a")).exists());
    }

    #[test]
    fn an_action_that_arrives_with_its_files_is_recalled() {
        let (_folder, cache) = cache();
        let (_other, elsewhere) = self::cache();
        let fingerprint = Fingerprint::of(b"f");
        let attempt = elsewhere.attempt().unwrap();
        let made = attempt.path().join("made");
        fs::create_dir(&made).unwrap();
        fs::write(made.join("x"), "x").unwrap();
        let staged = std::collections::BTreeMap::from([("out".to_owned(), made)]);
        let action = elsewhere.commit(&fingerprint, &staged, &serde_json::Value::Null).unwrap();
        let (known, written) = elsewhere.written(&fingerprint).unwrap().unwrap();
        assert_eq!(known, action);
        let arrivals = cache.arrivals().unwrap();
        let folder = &action.outputs["out"];
        let manifest = fs::read(elsewhere.file(&folder.digest)).unwrap();
        assert!(matches!(arrivals.tree(folder), Err(CacheError::Missing { .. })));
        assert!(bring(&arrivals, &folder.digest, &manifest));
        let larger = Artifact { bytes: 2, ..folder.clone() };
        assert!(arrivals.tree(&larger).is_err());
        assert_eq!(arrivals.tree(folder).unwrap().files.len(), 1);
        assert!(bring(&arrivals, &Digest::of(b"x"), b"x"));
        assert_eq!(cache.recall(&fingerprint).unwrap(), None);
        arrivals.remember(&written, &fingerprint).unwrap();
        assert_eq!(cache.recall(&fingerprint).unwrap(), Some(action.clone()));
        assert!(cache.verify(folder).unwrap());
    }
}
