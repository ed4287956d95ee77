//! The cache as the engine sees it.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gradus_cache::{Action, Artifact, Cache, CacheError, Digest, Fingerprint, Form};
use serde_json::json;
use tempfile::TempDir;

fn fresh() -> (TempDir, Cache) {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::open(root.path()).unwrap();
    (root, cache)
}

fn commit(cache: &Cache, key: &str, content: &str) -> Action {
    let attempt = cache.attempt().unwrap();
    let path = attempt.path().join("out");
    fs::write(&path, content).unwrap();
    let staged = BTreeMap::from([("out".to_owned(), path)]);
    cache.commit(&Fingerprint::of(key.as_bytes()), &staged, &json!({"kind": "k"})).unwrap()
}

fn commit_folder(cache: &Cache, key: &str) -> Action {
    let attempt = cache.attempt().unwrap();
    let folder = attempt.path().join("model");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
    fs::write(folder.join("deep/er/weights"), "abc").unwrap();
    let staged = BTreeMap::from([("model".to_owned(), folder)]);
    cache.commit(&Fingerprint::of(key.as_bytes()), &staged, &json!(null)).unwrap()
}

fn recall(cache: &Cache, key: &str) -> Option<Action> {
    cache.recall(&Fingerprint::of(key.as_bytes())).unwrap()
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

fn quarantined(cache: &Cache) -> usize {
    fs::read_dir(cache.root().join("quarantine")).unwrap().count()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn what_is_committed_is_recalled() {
    let (root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    let artifact = &action.outputs["out"];
    assert_eq!(*artifact, Artifact::blob(Digest::of(b"hello"), 5));
    assert_eq!(fs::read(cache.file(&artifact.digest)).unwrap(), b"hello");
    drop(cache);
    let cache = Cache::open(root.path()).unwrap();
    assert_eq!(recall(&cache, "a"), Some(action));
    assert_eq!(recall(&cache, "b"), None);
}

#[test]
fn a_lost_blob_is_a_miss() {
    let (_root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    fs::remove_file(cache.file(&action.outputs["out"].digest)).unwrap();
    assert_eq!(recall(&cache, "a"), None);
    assert!(!cache.verify(&action.outputs["out"]).unwrap());
    commit(&cache, "a", "hello");
    assert!(recall(&cache, "a").is_some());
}

#[test]
fn a_blob_cut_short_is_a_miss_and_set_aside() {
    let (_root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    overwrite(&cache.file(&action.outputs["out"].digest), b"hel");
    assert_eq!(recall(&cache, "a"), None);
    assert_eq!(quarantined(&cache), 1);
}

#[test]
fn a_flipped_blob_is_found_at_first_use_and_then_a_miss() {
    let (_root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    overwrite(&cache.file(&action.outputs["out"].digest), b"hellp");
    assert!(!cache.verify(&action.outputs["out"]).unwrap());
    assert_eq!(quarantined(&cache), 1);
    assert_eq!(recall(&cache, "a"), None);
}

#[test]
fn a_verified_blob_that_changes_is_verified_again() {
    let (_root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    assert!(cache.verify(&action.outputs["out"]).unwrap());
    overwrite(&cache.file(&action.outputs["out"].digest), b"hellp");
    assert!(!cache.verify(&action.outputs["out"]).unwrap());
}

#[test]
fn a_large_blob_is_hashed_only_when_full_verification_is_asked() {
    let (_root, cache) = fresh();
    let mut content = "x".repeat((8 << 20) + 1);
    let action = commit(&cache, "a", &content);
    content.replace_range(0..1, "y");
    overwrite(&cache.file(&action.outputs["out"].digest), content.as_bytes());
    assert!(cache.verify(&action.outputs["out"]).unwrap());
    assert!(!cache.verify_fully(&action.outputs["out"]).unwrap());
}

#[test]
fn a_damaged_action_is_a_miss_and_set_aside() {
    let (_root, cache) = fresh();
    for (number, damage) in [b"".as_slice(), b"{}\n", b"{\"a\":1}\nffff\n"].iter().enumerate() {
        commit(&cache, "a", "hello");
        let path = files_below(&cache.root().join("actions")).remove(0);
        overwrite(&path, damage);
        assert_eq!(recall(&cache, "a"), None);
        assert_eq!(quarantined(&cache), number + 1);
    }
}

#[test]
fn an_action_under_another_name_is_not_believed() {
    let (_root, cache) = fresh();
    commit(&cache, "a", "hello");
    let a = files_below(&cache.root().join("actions")).remove(0);
    commit(&cache, "b", "hello");
    let b = files_below(&cache.root().join("actions")).into_iter().find(|path| *path != a).unwrap();
    fs::rename(a, b).unwrap();
    assert_eq!(recall(&cache, "b"), None);
}

#[test]
fn an_object_that_is_there_wins_unless_it_is_damaged() {
    let (_root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    let place = cache.file(&action.outputs["out"].digest);
    let inode = fs::metadata(&place).unwrap().ino();
    commit(&cache, "b", "hello");
    assert_eq!(fs::metadata(&place).unwrap().ino(), inode);
    overwrite(&place, b"hellp");
    commit(&cache, "c", "hello");
    assert_eq!(fs::read(&place).unwrap(), b"hello");
}

#[test]
fn no_object_is_writable_or_has_a_second_name() {
    let (root, cache) = fresh();
    let outside = root.path().join("mine");
    fs::write(&outside, "linked").unwrap();
    let attempt = cache.attempt().unwrap();
    let staged = attempt.path().join("out");
    fs::hard_link(&outside, &staged).unwrap();
    let staged = BTreeMap::from([("out".to_owned(), staged)]);
    cache.commit(&Fingerprint::of(b"a"), &staged, &json!(null)).unwrap();
    commit_folder(&cache, "b");
    for path in files_below(&cache.root().join("blobs")) {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.nlink()), (0o444, 1), "{path:?}");
    }
}

#[test]
fn a_folder_comes_back_as_it_went_in() {
    let (root, cache) = fresh();
    let action = commit_folder(&cache, "a");
    let artifact = &action.outputs["model"];
    assert_eq!((artifact.form, artifact.bytes), (Form::Tree, 5));
    assert!(cache.verify(artifact).unwrap());
    let files = cache.tree(&artifact.digest).unwrap().files;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["config.json", "deep/er/weights"]);
    let to = root.path().join("copy");
    cache.materialise(artifact, &to).unwrap();
    assert_eq!(fs::read(to.join("deep/er/weights")).unwrap(), b"abc");
    assert_eq!(cache.hash_path(&to, &[]).unwrap().0, *artifact);
    fs::write(to.join("config.json"), "[]").unwrap();
    assert!(cache.verify_fully(artifact).unwrap());
    assert!(matches!(cache.materialise(artifact, &to), Err(CacheError::Exists { .. })));
}

#[test]
fn a_folder_that_lost_a_file_is_a_miss() {
    let (_root, cache) = fresh();
    commit_folder(&cache, "a");
    fs::remove_file(cache.file(&Digest::of(b"abc"))).unwrap();
    assert_eq!(recall(&cache, "a"), None);
}

#[test]
fn a_manifest_that_leads_outside_is_refused_and_set_aside() {
    let (root, cache) = fresh();
    let digest = Digest::of(b"");
    let json = format!(
        r#"{{"gradus_tree":1,"files":{{"../x":{{"digest":"{digest}","form":"blob","bytes":0}}}}}}"#
    );
    let mut artifact = commit(&cache, "a", &json).outputs["out"].clone();
    artifact.form = Form::Tree;
    assert!(matches!(cache.tree(&artifact.digest), Err(CacheError::Manifest { .. })));
    assert!(cache.materialise(&artifact, &root.path().join("to")).is_err());
    assert!(!cache.verify(&artifact).unwrap());
    assert_eq!(quarantined(&cache), 1);
}

#[test]
fn many_threads_commit_the_same_and_different_things() {
    let (_root, cache) = fresh();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let cache = cache.clone();
            scope.spawn(move || {
                for round in 0..10 {
                    commit(&cache, &format!("{thread}/{round}"), &format!("content {round}"));
                    commit(&cache, "shared", "shared");
                }
            });
        }
    });
    for thread in 0..8 {
        for round in 0..10 {
            let action = recall(&cache, &format!("{thread}/{round}")).unwrap();
            assert!(cache.verify_fully(&action.outputs["out"]).unwrap());
        }
    }
    assert!(recall(&cache, "shared").is_some());
    assert_eq!(quarantined(&cache), 0);
    assert_eq!(fs::read_dir(cache.root().join("attempts")).unwrap().count(), 0);
}

#[test]
fn what_a_dead_attempt_left_behind_does_no_harm() {
    let (root, cache) = fresh();
    let kept = cache.attempt().unwrap();
    fs::write(kept.path().join("half"), "hal").unwrap();
    let kept = kept.keep();
    drop(cache);
    let cache = Cache::open(root.path()).unwrap();
    commit(&cache, "a", "hello");
    assert!(recall(&cache, "a").is_some());
    assert!(kept.join("half").exists());
}

#[test]
fn a_link_in_what_is_hashed_or_staged_is_refused_by_name() {
    let (root, cache) = fresh();
    let folder = root.path().join("data");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("sly")).unwrap();
    let error = cache.hash_path(&folder, &[]).unwrap_err().to_string();
    assert!(error.contains("sly"), "{error}");
    let staged = BTreeMap::from([("out".to_owned(), folder.join("sly"))]);
    let error = cache.commit(&Fingerprint::of(b"a"), &staged, &json!(null)).unwrap_err();
    assert!(matches!(error, CacheError::Symlink { .. }));
}

#[test]
fn a_users_file_is_hashed_again_when_it_changed() {
    let (root, cache) = fresh();
    let path = root.path().join("rows.jsonl");
    fs::write(&path, "one").unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let (artifact, stats) = cache.hash_path(&path, &[]).unwrap();
    assert_eq!(artifact.digest, Digest::of(b"one"));
    assert!(stats[0].still_holds());
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    assert!(!stats[0].still_holds());
    assert_eq!(cache.hash_path(&path, &[]).unwrap().0.digest, Digest::of(b"two"));
}

#[test]
fn the_stat_cache_spares_a_second_reading() {
    let (root, cache) = fresh();
    let path = root.path().join("rows.jsonl");
    fs::write(&path, "one").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_, stats) = cache.hash_path(&path, &[]).unwrap();
    assert_eq!(cache.index().stat_get(path.to_str().unwrap()).as_ref(), Some(&stats[0]));
    assert_eq!(cache.hash_path(&path, &[]).unwrap().1, stats);
}

#[test]
fn a_cache_of_another_version_is_refused() {
    let (root, cache) = fresh();
    drop(cache);
    overwrite(&root.path().join("format"), b"gradus cache 2\n");
    assert!(matches!(Cache::open(root.path()), Err(CacheError::Format { .. })));
}

#[test]
fn copies_are_writable_and_independent() {
    let (root, cache) = fresh();
    let action = commit(&cache, "a", "hello");
    let to = root.path().join("copy");
    cache.materialise(&action.outputs["out"], &to).unwrap();
    fs::write(&to, "changed").unwrap();
    assert!(cache.verify_fully(&action.outputs["out"]).unwrap());
}

#[test]
fn a_copy_of_what_is_gone_is_told_from_one_that_fails() {
    let (root, cache) = fresh();
    let artifact = commit(&cache, "a", "hello").outputs["out"].clone();
    let to = root.path().join("copy");
    fs::remove_file(cache.file(&artifact.digest)).unwrap();
    let missing =
        |it| matches!(it, Err(CacheError::Missing { digest }) if digest == artifact.digest);
    assert!(missing(cache.materialise(&artifact, &to)));
}
