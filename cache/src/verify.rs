//! Looks at all that a cache holds: every blob is hashed to its last byte, every action read. What is
//! damaged goes to quarantine; whoever needs it finds a miss, and has it made or fetched again.

use std::fs;
use std::io::ErrorKind;

use serde::Serialize;

use crate::{Artifact, Cache, CacheError, Count, Digest, Fingerprint, Form, memo, objects, sweep};

/// What was looked at, and what of it was wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The sound ones.
    pub blobs: Count,
    pub actions: Count,
    pub damaged_blobs: Vec<Digest>,
    pub damaged_actions: Vec<Fingerprint>,
    /// Sound actions of which some output is gone or damaged: misses.
    pub incomplete: Vec<Fingerprint>,
}

impl Verified {
    pub fn is_sound(&self) -> bool {
        self.damaged_blobs.is_empty() && self.damaged_actions.is_empty()
    }
}

impl Cache {
    /// Checks everything, and sets aside what is damaged.
    pub fn verify_all(&self) -> Result<Verified, CacheError> {
        let mut verified = Verified::default();
        for (name, path, found) in sweep::sharded(&self.root().join("blobs"))? {
            let Ok(digest) = name.parse::<Digest>() else { continue };
            let real = if found.is_file() {
                objects::hash(&path, found.len()).map(Some)
            } else {
                Ok(None)
            };
            match real {
                Ok(real) if real == Some(digest) => verified.blobs.add(found.len()),
                Ok(_) => {
                    objects::set_aside(&path, &self.quarantine())?;
                    verified.damaged_blobs.push(digest);
                }
                Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => {
                    objects::set_aside(&path, &self.quarantine())?;
                    verified.damaged_blobs.push(digest);
                }
                // A sweep was quicker.
                Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for (name, path, found) in sweep::sharded(&self.root().join("actions"))? {
            let Ok(fingerprint) = name.parse::<Fingerprint>() else { continue };
            let Some((bytes, _)) = memo::bytes(&path)? else { continue };
            let Some(action) = memo::parse(&bytes, &fingerprint) else {
                objects::set_aside(&path, &self.quarantine())?;
                verified.damaged_actions.push(fingerprint);
                continue;
            };
            verified.actions.add(found.len());
            if !action.outputs.values().all(|artifact| self.holds(artifact)) {
                verified.incomplete.push(fingerprint);
            }
        }
        Ok(verified)
    }

    /// Whether all of an artifact is there, now that what is damaged is gone. Touches nothing: nobody is
    /// about to use it.
    fn holds(&self, artifact: &Artifact) -> bool {
        let has = |file: &Artifact| {
            fs::metadata(self.file(&file.digest)).is_ok_and(|found| found.len() == file.bytes)
        };
        match artifact.form {
            Form::Blob => has(artifact),
            Form::Tree => {
                self.tree(&artifact.digest).is_ok_and(|folder| folder.files.values().all(has))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_flipped_bit_in_a_large_blob_is_found_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let fingerprint = Fingerprint::of(b"f");
        let attempt = cache.attempt().unwrap();
        let large = attempt.path().join("large");
        fs::write(&large, vec![7; 9 << 20]).unwrap();
        let staged = BTreeMap::from([("out".to_owned(), large)]);
        let action = cache.commit(&fingerprint, &staged, &serde_json::Value::Null).unwrap();
        let sound = cache.verify_all().unwrap();
        assert!(sound.is_sound());
        assert_eq!((sound.blobs.number, sound.blobs.bytes), (1, 9 << 20));

        let artifact = &action.outputs["out"];
        let path = cache.file(&artifact.digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8 << 20] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        assert!(cache.verify(artifact).unwrap(), "its size alone is right");
        let damaged = cache.verify_all().unwrap();
        assert_eq!(damaged.damaged_blobs, [artifact.digest]);
        assert_eq!(damaged.incomplete, [fingerprint]);
        assert!(!damaged.is_sound() && !path.exists());
        assert_eq!(cache.recall(&fingerprint).unwrap(), None);
        assert!(cache.verify_all().unwrap().is_sound());
    }

    #[test]
    fn an_action_that_is_cut_short_is_found_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let fingerprint = Fingerprint::of(b"f");
        cache.commit(&fingerprint, &BTreeMap::new(), &serde_json::Value::Null).unwrap();
        let path = cache.action_path(&fingerprint);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(cache.verify_all().unwrap().damaged_actions, [fingerprint]);
        assert!(!path.exists());
    }
}
