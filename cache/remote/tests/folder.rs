//! Two machines and a folder between them: what comes over, and what does not.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use gradus_cache::{Action, Artifact, Cache, Fingerprint, MOST_ACTION_BYTES, shard};
use gradus_remote::{Fetched, OpenError, Place, PushError, Remote, Settings, SigningKey, Warning};
use tempfile::TempDir;

/// More than two parts of an upload.
const LARGE: usize = 20 << 20;

struct World {
    folder: TempDir,
    key: SigningKey,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::make(&folder.path().join("key")).unwrap();
        let cache = Cache::open(&folder.path().join("here")).unwrap();
        Self { folder, key, cache }
    }

    fn settings(&self) -> Settings {
        Settings {
            url: Place::try_from("shared".to_owned()).unwrap(),
            write: false,
            trusted: vec![self.key.public()],
            key: None,
        }
    }

    /// Another run, which remembers nothing of the one before.
    fn remote(&self, settings: &Settings) -> Remote {
        Remote::open(settings, self.folder.path()).unwrap()
    }

    fn reader(&self) -> Remote {
        self.remote(&self.settings())
    }

    fn writer(&self, key: &str) -> Remote {
        let key = Some(PathBuf::from(key));
        self.remote(&Settings { write: true, key, ..self.settings() })
    }

    /// Commits a small file, and a folder, under the name of `word`.
    fn commit(&self, word: &str) -> Action {
        let attempt = self.cache.attempt().unwrap();
        let (file, folder) = (attempt.path().join("file"), attempt.path().join("folder"));
        fs::write(&file, word).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x"), word.repeat(3)).unwrap();
        fs::write(folder.join("empty"), "").unwrap();
        let staged = BTreeMap::from([("file".to_owned(), file), ("folder".to_owned(), folder)]);
        self.cache.commit(&named(word), &staged, &serde_json::json!({ "by": word })).unwrap()
    }

    /// Asks on a machine that has nothing yet.
    fn fetch(&self, remote: &Remote, word: &str) -> (TempDir, Cache, Fetched) {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let fetched = remote.fetch(&cache, &named(word)).unwrap();
        (folder, cache, fetched)
    }

    /// Asserts that a machine without anything takes nothing in, and says why.
    fn assert_refused(&self, word: &str, why: &str) {
        let (folder, cache, fetched) = self.fetch(&self.reader(), word);
        assert_eq!(fetched.action, None);
        let Some(Warning::Result(words) | Warning::Remote(words)) = fetched.warning else {
            panic!("no warning: {why}")
        };
        assert!(words.contains(why), "{words}");
        assert_eq!(cache.recall(&named(word)).unwrap(), None);
        for room in ["blobs", "actions", "attempts"] {
            assert!(files_below(&folder.path().join(room)).is_empty(), "{words}");
        }
    }

    fn there(&self, room: &str, hash: &impl std::fmt::Display) -> PathBuf {
        self.folder.path().join("shared").join(room).join(shard(hash))
    }
}

fn named(word: &str) -> Fingerprint {
    Fingerprint::of(word.as_bytes())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn content(cache: &Cache, artifact: &Artifact) -> Vec<u8> {
    assert!(cache.verify_fully(artifact).unwrap());
    fs::read(cache.file(&artifact.digest)).unwrap()
}

#[test]
fn what_one_machine_pushes_another_fetches_byte_for_byte() {
    let world = World::new();
    let action = world.commit("a");
    let pushed = world.writer("key").push(&world.cache, &named("a")).unwrap();
    assert!(pushed.fresh);
    assert_eq!(pushed.sent.number, 4);
    let (_folder, cache, fetched) = world.fetch(&world.reader(), "a");
    assert_eq!(fetched.warning, None);
    assert_eq!(fetched.action, Some(action.clone()));
    assert_eq!(cache.recall(&named("a")).unwrap(), Some(action.clone()));
    for artifact in action.outputs.values() {
        assert_eq!(content(&cache, artifact), content(&world.cache, artifact));
    }
    assert_eq!(cache.tree(&action.outputs["folder"].digest).unwrap().files["x"].bytes, 3);
    let again = world.writer("key").push(&world.cache, &named("a")).unwrap();
    assert_eq!((again.fresh, again.sent.number), (false, 0));
}

#[test]
fn a_large_file_goes_and_comes_in_parts() {
    let world = World::new();
    let attempt = world.cache.attempt().unwrap();
    let large = attempt.path().join("large");
    let bytes: Vec<u8> = (0..LARGE).map(|i| u8::try_from(i % 251).unwrap()).collect();
    fs::write(&large, &bytes).unwrap();
    let staged = BTreeMap::from([("out".to_owned(), large)]);
    let action = world.cache.commit(&named("large"), &staged, &serde_json::Value::Null).unwrap();
    world.writer("key").push(&world.cache, &named("large")).unwrap();
    let (_folder, cache, _) = world.fetch(&world.reader(), "large");
    assert!(content(&cache, &action.outputs["out"]) == bytes);

    flip(&world.there("cas", &action.outputs["out"].digest), LARGE / 2);
    world.assert_refused("large", "is damaged there");
}

#[test]
fn what_the_remote_does_not_have_is_a_plain_miss() {
    let world = World::new();
    world.commit("a");
    world.writer("key").push(&world.cache, &named("a")).unwrap();
    let (_folder, _, fetched) = world.fetch(&world.reader(), "b");
    assert_eq!((fetched.action, fetched.warning), (None, None));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_any_file_there_is_a_miss_and_never_wrong_bytes() {
    let world = World::new();
    world.commit("a");
    world.writer("key").push(&world.cache, &named("a")).unwrap();
    let mut flips = 0;
    for path in files_below(&world.folder.path().join("shared")) {
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        let is_action = path.starts_with(world.folder.path().join("shared/ac"));
        let step = if is_action { 7 } else { 1 + length / 8 };
        for at in (0..length).step_by(step) {
            flip(&path, at);
            world.assert_refused("a", "");
            flip(&path, at);
            flips += 1;
        }
    }
    assert!(flips > 40);
    assert!(world.fetch(&world.reader(), "a").2.action.is_some());
}

#[test]
fn an_action_under_another_name_is_a_miss() {
    let world = World::new();
    for word in ["a", "b"] {
        world.commit(word);
        world.writer("key").push(&world.cache, &named(word)).unwrap();
    }
    fs::copy(world.there("ac", &named("b")), world.there("ac", &named("a"))).unwrap();
    world.assert_refused("a", "its signature is of something else");
}

#[test]
fn an_action_that_nobody_trusted_signed_is_a_miss() {
    let world = World::new();
    let action = world.commit("a");
    SigningKey::make(&world.folder.path().join("stranger")).unwrap();
    world.writer("stranger").push(&world.cache, &named("a")).unwrap();
    world.assert_refused("a", "signed by a key which `trusted` in gradus.toml does not list");
    let bare = fs::read(world.cache.root().join("actions").join(shard(&action.fingerprint)));
    fs::write(world.there("ac", &named("a")), bare.unwrap()).unwrap();
    world.assert_refused("a", "it is not signed");
    // Its bytes by one key, its signature said to be by another.
    world.writer("stranger").push(&world.cache, &named("a")).unwrap();
    let text = fs::read_to_string(world.there("ac", &named("a"))).unwrap();
    let stranger = text.rsplit(' ').nth(1).unwrap();
    let forged = text.replace(stranger, &world.key.public().to_string());
    fs::write(world.there("ac", &named("a")), forged).unwrap();
    world.assert_refused("a", "its signature is of something else");
}

#[test]
fn what_is_larger_than_it_may_be_is_not_read() {
    let world = World::new();
    let action = world.commit("a");
    let there = world.there("ac", &named("a"));
    world.writer("key").push(&world.cache, &named("a")).unwrap();
    let sound = fs::read(&there).unwrap();
    File::options().write(true).open(&there).unwrap().set_len(MOST_ACTION_BYTES * 100).unwrap();
    world.assert_refused("a", "is larger than the");
    fs::write(&there, sound).unwrap();
    for artifact in action.outputs.values() {
        let there = world.there("cas", &artifact.digest);
        let sound = fs::read(&there).unwrap();
        File::options().write(true).open(&there).unwrap().set_len(1 << 40).unwrap();
        world.assert_refused("a", "is larger than the");
        fs::write(&there, sound).unwrap();
    }
}

#[test]
fn an_action_whose_files_are_gone_is_a_miss() {
    let world = World::new();
    world.commit("a");
    world.writer("key").push(&world.cache, &named("a")).unwrap();
    for path in files_below(&world.folder.path().join("shared/cas")) {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        world.assert_refused("a", "is missing there");
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_upload_that_fails_leaves_no_action_without_its_files() {
    let world = World::new();
    let action = world.commit("a");
    let file = world.cache.file(&action.outputs["file"].digest);
    fs::remove_file(&file).unwrap();
    fs::write(&file, "b").unwrap();
    let failed = world.writer("key").push(&world.cache, &named("a")).unwrap_err();
    assert!(matches!(failed, PushError::Damaged(_)), "{failed}");
    fs::remove_file(&file).unwrap();
    let failed = world.writer("key").push(&world.cache, &named("a")).unwrap_err();
    assert!(matches!(failed, PushError::Gone), "{failed}");
    assert!(files_below(&world.folder.path().join("shared/ac")).is_empty());
}

#[test]
fn a_writer_replaces_what_nobody_would_believe() {
    let world = World::new();
    let action = world.commit("a");
    world.writer("key").push(&world.cache, &named("a")).unwrap();
    flip(&world.there("ac", &named("a")), 0);
    assert!(world.writer("key").push(&world.cache, &named("a")).unwrap().fresh);
    assert!(world.fetch(&world.reader(), "a").2.action.is_some());
    // Of a file only the size is seen, unless the same run found out more.
    flip(&world.there("cas", &action.outputs["file"].digest), 0);
    let writer = world.writer("key");
    assert_eq!(writer.push(&world.cache, &named("a")).unwrap().sent.number, 0);
    assert_eq!(world.fetch(&writer, "a").2.action, None);
    assert_eq!(writer.push(&world.cache, &named("a")).unwrap().sent.number, 1);
    assert!(world.fetch(&world.reader(), "a").2.action.is_some());
}

#[test]
fn without_a_key_nothing_is_written() {
    let world = World::new();
    world.commit("a");
    let failed = world.reader().push(&world.cache, &named("a")).unwrap_err();
    assert!(matches!(failed, PushError::Open(OpenError::NoKey)), "{failed}");
    let open = |settings: Settings| Remote::open(&settings, world.folder.path()).unwrap_err();
    assert!(matches!(open(Settings { write: true, ..world.settings() }), OpenError::NoKey));
    let nobody = Settings { trusted: Vec::new(), ..world.settings() };
    assert!(matches!(open(nobody), OpenError::TrustsNobody));
    assert!(!world.folder.path().join("shared").exists());
}

#[test]
fn a_remote_that_is_not_there_is_named_once_and_then_left_alone() {
    let world = World::new();
    let reader = world.reader();
    let warned = (0..5).filter_map(|_| world.fetch(&reader, "a").2.warning).collect::<Vec<_>>();
    let [Warning::Remote(words)] = warned.as_slice() else { panic!("{warned:?}") };
    assert!(words.starts_with("the remote `shared` cannot be used: the folder"), "{words}");
    assert!(reader.look(&[named("a"), named("b")])[&named("a")].warning.is_none());
}
