//! All that knows sled: an index of what files answer slowly. Disposable, one per host.
//!
//! Who gets the lock opens it, at first use. Who does not writes its changes to a journal that
//! the next holder folds in. Whatever fails here costs speed and explanations, never a result.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::owner::host;
use crate::{Fingerprint, Stat, settled};

/// A journal beyond this is not worth reading.
const MOST_JOURNAL: u64 = 256 << 20;

/// What the cache remembers to be quick and to explain itself.
#[derive(Debug)]
pub struct Index {
    /// `index/<host>`: sled's lock and files mean nothing to another machine.
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unopened,
    Held(Held),
    /// Another process holds the index: own changes, here and in the journal file.
    Journal {
        file: Option<PathBuf>,
        own: BTreeMap<String, Value>,
    },
}

#[derive(Debug)]
struct Held {
    // Dropped in this order: the lock outlives the database.
    db: sled::Db,
    lock: File,
}

#[derive(Serialize, Deserialize)]
struct Change {
    key: String,
    value: Value,
}

/// A change in the journal, with a word that shows damage.
#[derive(Serialize, Deserialize)]
struct Line<C> {
    check: String,
    change: C,
}

impl Change {
    fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(&Line { check: self.check()?, change: self })?;
        line.push(b'\n');
        Ok(line)
    }

    /// What a line says; `None` for one that was cut off by a kill or damaged.
    fn of_line(line: &[u8]) -> Option<Self> {
        let Line::<Self> { check, change } = serde_json::from_slice(line).ok()?;
        change.check().is_ok_and(|right| right == check).then_some(change)
    }

    fn check(&self) -> Result<String, serde_json::Error> {
        Ok(blake3::hash(&serde_json::to_vec(self)?).to_hex()[..16].to_owned())
    }
}

impl Index {
    pub(crate) fn new(root: &Path) -> Self {
        Self { folder: root.join(host()), state: Mutex::default() }
    }

    /// What a stage was when it was last noted, to explain what changed since.
    pub fn last(&self, pipeline: &str, stage: &str) -> Option<Value> {
        self.get(&format!("last/{}", json!([pipeline, stage])))
    }

    /// Notes what a stage is. Of what is noted already only the fingerprint is looked at: it stands apart, so
    /// that those of many stages share a page.
    pub fn set_last(
        &self,
        pipeline: &str,
        stage: &str,
        fingerprint: &Fingerprint,
        facts: impl FnOnce() -> Value,
    ) {
        let key = json!([pipeline, stage]);
        let now = format!("now/{key}");
        if self.get(&now) != Some(json!(fingerprint)) {
            self.unsettle(pipeline);
            // Should this end in between, neither stands for the other.
            self.put(now.clone(), Value::Null);
            self.put(format!("last/{key}"), facts());
            self.put(now, json!(fingerprint));
        }
    }

    /// Where this host's index lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn stat_get(&self, path: &str) -> Option<Stat> {
        self.get(&format!("stat/{path}")).and_then(|value| serde_json::from_value(value).ok())
    }

    pub fn stat_put(&self, path: &str, stat: &Stat) {
        if let Ok(value) = serde_json::to_value(stat) {
            self.put(format!("stat/{path}"), value);
        }
    }

    fn get(&self, key: &str) -> Option<Value> {
        self.with(|_, state| match state {
            State::Held(held) => {
                Ok(held.db.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
            }
            State::Journal { own, .. } => Ok(own.get(key).cloned()),
            State::Unopened => Ok(None),
        })
        .flatten()
    }

    fn put(&self, key: String, value: Value) {
        let change = Change { key, value };
        self.with(|folder, state| match state {
            State::Held(held) => insert(&held.db, &change),
            State::Journal { file, own } => {
                note(folder, file, &change)?;
                own.insert(change.key.clone(), change.value.clone());
                Ok(())
            }
            State::Unopened => Ok(()),
        });
    }

    /// Runs `work` on the open index. When that fails, rebuilds the index and tries once more.
    fn with<T>(&self, work: impl Fn(&Path, &mut State) -> Result<T, Trouble>) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| {
            self.state.clear_poison();
            poisoned.into_inner()
        });
        for _ in 0..2 {
            if matches!(*state, State::Unopened) {
                *state = open(&self.folder);
            }
            let trouble = match guarded(|| work(&self.folder, &mut state)) {
                Ok(found) => return Some(found),
                Err(trouble) => trouble,
            };
            tracing::warn!(folder = %self.folder.display(), %trouble, "index failed");
            let State::Held(Held { db, lock }) = std::mem::take(&mut *state) else {
                return None;
            };
            drop(db);
            set_aside(&self.folder);
            drop(lock);
        }
        None
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("sled panicked")]
    Panic,
}

/// sled answers some damage by a panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Trouble::Panic))
}

fn open(folder: &Path) -> State {
    let journal = || State::Journal { file: None, own: BTreeMap::new() };
    let Some(lock) = lock(folder) else { return journal() };
    for _ in 0..2 {
        match guarded(|| open_database(folder)) {
            Ok(db) => return State::Held(Held { db, lock }),
            Err(trouble) => {
                tracing::warn!(folder = %folder.display(), %trouble, "index is rebuilt");
                set_aside(folder);
            }
        }
    }
    journal()
}

fn lock(folder: &Path) -> Option<File> {
    fs::create_dir_all(folder).ok()?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}

fn open_database(folder: &Path) -> Result<sled::Db, Trouble> {
    let config = sled::Config::default()
        .path(folder.join("sled"))
        .cache_capacity(16 << 20)
        .mode(sled::Mode::LowSpace);
    // sled may hold its own lock for a moment after its last user is gone.
    let mut patience = 20;
    let db = loop {
        match config.open() {
            Ok(db) => break db,
            Err(sled::Error::Io(error)) if patience > 0 && is_locked(&error) => {
                patience -= 1;
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    };
    fold(folder, &db)?;
    Ok(db)
}

fn is_locked(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

fn insert(db: &sled::Db, change: &Change) -> Result<(), Trouble> {
    let value = serde_json::to_vec(&change.value)?;
    // sled never forgets the space of what it overwrites, and a cached run notes what it noted before.
    if db.get(&change.key)?.is_none_or(|old| old != value) {
        db.insert(&change.key, value)?;
    }
    Ok(())
}

/// Moves the database out of the way; only the newest such wreck is kept.
fn set_aside(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("broken-"))
    {
        let _ = fs::remove_dir_all(entry.path());
    }
    // What was known of it is known no more.
    let _ = fs::remove_dir_all(folder.join(settled::FOLDER));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
    let _ = fs::rename(folder.join("sled"), folder.join(format!("broken-{now}")));
}

/// Appends a change to this process's journal, which a holder may take away at any time.
fn note(folder: &Path, file: &mut Option<PathBuf>, change: &Change) -> Result<(), Trouble> {
    let line = change.to_line()?;
    let path = match file {
        Some(path) => path,
        None => file.insert(new_journal(&folder.join("journal"))?),
    };
    loop {
        let mut journal = OpenOptions::new().create(true).append(true).open(&path)?;
        journal.lock()?;
        // Taken away between opening and locking: nobody would read what is written now.
        if journal.metadata()?.nlink() > 0 {
            journal.write_all(&line)?;
            return Ok(());
        }
    }
}

fn new_journal(folder: &Path) -> Result<PathBuf, Trouble> {
    fs::create_dir_all(folder)?;
    let mut number = 0_u32;
    loop {
        let path = folder.join(format!("{}-{number}.jsonl", std::process::id()));
        match OpenOptions::new().create_new(true).write(true).open(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes over what others wrote to their journals while they had no index.
fn fold(folder: &Path, db: &sled::Db) -> Result<(), Trouble> {
    let mut journals: Vec<_> = fs::read_dir(folder.join("journal"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    journals.sort();
    for path in journals {
        let Ok(mut journal) = File::open(&path) else { continue };
        journal.lock()?;
        if journal.metadata()?.len() <= MOST_JOURNAL {
            let mut text = Vec::new();
            journal.seek(SeekFrom::Start(0))?;
            journal.read_to_end(&mut text)?;
            for change in text.split(|&byte| byte == b'\n').filter_map(Change::of_line) {
                insert(db, &change)?;
            }
            db.flush()?;
        }
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(index: &Index, stage: &str, facts: Value) {
        index.set_last("p", stage, &Fingerprint::of(facts.to_string().as_bytes()), || facts);
    }

    fn damage(folder: &Path) {
        for entry in fs::read_dir(folder.join(host()).join("sled")).unwrap().flatten() {
            if entry.path().is_file() {
                fs::write(entry.path(), b"not sled at all").unwrap();
            }
        }
    }

    #[test]
    fn what_was_noted_is_there_after_reopening() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::new(root.path());
        note(&index, "train", json!({"seed": 1}));
        drop(index);
        let index = Index::new(root.path());
        assert_eq!(index.last("p", "train"), Some(json!({"seed": 1})));
        assert_eq!(index.last("p", "other"), None);
    }

    #[test]
    fn what_is_noted_already_is_not_asked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::new(root.path());
        let [one, two] = [b"1", b"2"].map(|it| Fingerprint::of(it));
        index.set_last("p", "train", &one, || json!(1));
        index.set_last("p", "train", &one, || panic!("asked again"));
        index.set_last("p", "train", &two, || json!(2));
        assert_eq!(index.last("p", "train"), Some(json!(2)));
    }

    #[test]
    fn what_is_settled_holds_until_something_else_is_noted() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::new(root.path());
        let [one, two] = [b"1", b"2"].map(|it| Fingerprint::of(it));
        index.set_last("p", "train", &one, || json!(1));
        let stages = BTreeMap::from([("train".to_owned(), one)]);
        index.settle("p", &stages);
        index.set_last("p", "train", &one, || panic!("asked again"));
        assert_eq!(index.settled("p"), stages);
        assert!(index.settled("q").is_empty());
        index.set_last("q", "train", &two, || json!(2));
        assert_eq!(index.settled("p"), stages);
        index.set_last("p", "train", &two, || json!(2));
        assert!(index.settled("p").is_empty());
    }

    #[test]
    fn nothing_is_settled_once_the_index_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::new(root.path());
        note(&index, "train", json!(1));
        index.settle("p", &BTreeMap::from([("train".to_owned(), Fingerprint::of(b"1"))]));
        drop(index);
        damage(root.path());
        let index = Index::new(root.path());
        assert_eq!(index.last("p", "train"), None);
        assert!(index.settled("p").is_empty());
    }

    #[test]
    fn a_damaged_index_is_moved_aside_and_rebuilt() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::new(root.path());
        note(&index, "train", json!(1));
        drop(index);
        damage(root.path());
        let index = Index::new(root.path());
        assert_eq!(index.last("p", "train"), None);
        note(&index, "train", json!(2));
        assert_eq!(index.last("p", "train"), Some(json!(2)));
        let wrecks = fs::read_dir(root.path().join(host())).unwrap().flatten();
        assert!(
            wrecks
                .into_iter()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("broken-"))
        );
    }

    #[test]
    fn a_second_opener_writes_a_journal_that_the_next_holder_folds_in() {
        let root = tempfile::tempdir().unwrap();
        let holder = Index::new(root.path());
        note(&holder, "a", json!(1));
        let second = Index::new(root.path());
        assert_eq!(second.last("p", "a"), None);
        note(&second, "b", json!(2));
        assert_eq!(second.last("p", "b"), Some(json!(2)));
        assert_eq!(holder.last("p", "b"), None);
        note(&second, "c", json!(4));
        drop(holder);
        let next = Index::new(root.path());
        assert_eq!(next.last("p", "a"), Some(json!(1)));
        assert_eq!(next.last("p", "b"), Some(json!(2)));
        assert_eq!(next.last("p", "c"), Some(json!(4)));
    }

    #[test]
    fn a_flipped_bit_in_sled_costs_answers_and_makes_none_up() {
        let root = tempfile::tempdir().unwrap();
        let pristine = root.path().join("pristine");
        let index = Index::new(&pristine);
        let value = |number: usize| json!({ "number": number, "text": "x".repeat(number) });
        for number in 0..50 {
            note(&index, &number.to_string(), value(number));
        }
        drop(index);
        let sled = Path::new(&host()).join("sled");
        let files: Vec<_> = fs::read_dir(pristine.join(&sled))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_file())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect();
        for (name, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
            for try_number in 0..12 {
                let folder = tempfile::tempdir_in(root.path()).unwrap();
                fs::create_dir_all(folder.path().join(&sled)).unwrap();
                for (other, content) in &files {
                    fs::write(folder.path().join(&sled).join(other), content).unwrap();
                }
                let mut damaged = content.clone();
                // Most of sled's file is empty: begin where something is written.
                let written = content.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
                damaged[(written - 1) * try_number / 11] ^= 1 << (try_number % 8);
                fs::write(folder.path().join(&sled).join(name), damaged).unwrap();
                let index = Index::new(folder.path());
                for number in 0..50 {
                    let found = index.last("p", &number.to_string());
                    assert!(found.is_none() || found == Some(value(number)), "{name:?} {found:?}");
                }
                note(&index, "new", json!(1));
                assert_eq!(index.last("p", "new"), Some(json!(1)));
            }
        }
    }

    #[test]
    fn a_damaged_line_of_a_journal_is_left_out() {
        let change = Change { key: "k".to_owned(), value: json!(12) };
        let line = change.to_line().unwrap();
        assert_eq!(Change::of_line(&line).unwrap().value, json!(12));
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(Change::of_line(text.replace("12", "13").as_bytes()).is_none());
        assert!(Change::of_line(&line[..line.len() / 2]).is_none());
    }

    #[test]
    fn without_a_folder_everything_is_forgotten_and_nothing_fails() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let index = Index::new(&root.path().join("file"));
        note(&index, "a", json!(1));
        assert_eq!(index.last("p", "a"), None);
    }
}
