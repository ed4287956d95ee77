//! Whatever happens to a file of the store, its bytes come back right or not at all.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gradus_cache::{Action, Cache, Fingerprint};
use serde_json::json;

fn key() -> Fingerprint {
    Fingerprint::of(b"a")
}

/// Commits a file and a folder.
fn commit(cache: &Cache) -> Action {
    let attempt = cache.attempt().unwrap();
    let (file, folder) = (attempt.path().join("file"), attempt.path().join("folder"));
    fs::write(&file, "content").unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one"), "1").unwrap();
    let staged = [("file".to_owned(), file), ("folder".to_owned(), folder)];
    cache.commit(&key(), &BTreeMap::from(staged), &json!({ "loss": 0.25 })).unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Recalls and checks as the engine does.
fn recall(cache: &Cache) -> Option<Action> {
    let action = cache.recall(&key()).unwrap()?;
    action.outputs.values().all(|it| cache.verify(it).unwrap()).then_some(action)
}

/// Puts `content` in the place of every file in turn, and looks what becomes of it.
fn damaged(content: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::open(root.path()).unwrap();
    let action = commit(&cache);
    let stored =
        ["blobs", "actions"].map(|folder| files_below(&cache.root().join(folder))).concat();
    assert_eq!(stored.len(), 4);
    for path in stored {
        let sound = fs::read(&path).unwrap();
        for damaged in content(&sound) {
            fs::remove_file(&path).unwrap();
            fs::write(&path, &damaged).unwrap();
            assert_eq!(recall(&cache), None, "{} with {damaged:?} was believed", path.display());
            assert!(!path.exists(), "{} with {damaged:?} was left", path.display());
            let aside = files_below(&cache.root().join("quarantine"));
            assert_eq!(aside.iter().map(|it| fs::read(it).unwrap()).collect::<Vec<_>>(), [damaged]);
            fs::remove_file(&aside[0]).unwrap();
            assert_eq!(commit(&cache), action);
            assert_eq!(recall(&cache).as_ref(), Some(&action));
        }
    }
}

#[test]
fn a_flipped_bit_is_a_miss_and_set_aside() {
    damaged(|sound| {
        let flip = |at: usize| {
            let mut bytes = sound.to_vec();
            bytes[at] ^= 1 << (at % 8);
            bytes
        };
        // Every byte of the small ones, and some of the others.
        (0..sound.len()).step_by(sound.len() / 60 + 1).map(flip).collect()
    });
}

#[test]
fn a_file_cut_short_or_grown_is_a_miss_and_set_aside() {
    damaged(|sound| {
        let cut = (0..sound.len()).step_by(sound.len() / 20 + 1).map(|at| sound[..at].to_vec());
        cut.chain([[sound, b"\0"].concat(), [sound, sound].concat()]).collect()
    });
}

#[test]
fn a_missing_file_is_a_miss() {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::open(root.path()).unwrap();
    let action = commit(&cache);
    for folder in ["blobs", "actions"] {
        for path in files_below(&cache.root().join(folder)) {
            fs::remove_file(&path).unwrap();
            assert_eq!(recall(&cache), None);
            commit(&cache);
            assert_eq!(recall(&cache).as_ref(), Some(&action));
        }
    }
}
