//! What was computed row by row, kept for whoever needs the same of the same rows: on the disk, as far as engine and
//! workers both read it.
//!
//! A [`Page`] is one thing that is computed under one setting, a judge's score say; an entry of it is what came of
//! some rows. It names all that the result hangs on, so an entry is never wrong, only missing, and it checks itself:
//! what is torn or damaged is missing. Entries are files of their own, so that any number of stages may write at once.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

const CONTEXT: &str = "gradus 2026 page of a ledger";
const DIGEST: usize = 32;
/// A sweep looks at when an entry was used last; it is not written down more often than this.
const TOUCH_EVERY: Duration = Duration::from_hours(1);
/// Beside a stage's checkpoints: how far it is.
const REACHED: &str = "rows.json";

/// What is computed of rows, and with what.
#[derive(Debug, Clone)]
pub struct Page {
    /// `None` keeps nothing.
    folder: Option<PathBuf>,
    /// Whether what is there is not to be used.
    anew: bool,
    key: [u8; DIGEST],
}

impl Page {
    /// The page of `settings`: everything but the rows that a result hangs on, in words that are the same for the
    /// same. Entries stand below `folder`.
    pub fn new(folder: Option<&Path>, anew: bool, settings: &str) -> Self {
        let key = blake3::derive_key(CONTEXT, settings.as_bytes());
        Self { folder: folder.map(Path::to_owned), anew, key }
    }

    /// A page on which nothing stands, and nothing stays.
    pub fn blank() -> Self {
        Self { folder: None, anew: false, key: [0; DIGEST] }
    }

    /// What came of `rows`, if it is there and whole.
    pub fn recall(&self, rows: &[u8]) -> Option<Vec<u8>> {
        let (path, name) = self.place(rows)?;
        if self.anew {
            return None;
        }
        let mut found = fs::read(&path).ok()?;
        let body = found.get(DIGEST..)?;
        if found[..DIGEST] != check(&name, body) {
            return None;
        }
        touch(&path);
        found.drain(..DIGEST);
        Some(found)
    }

    /// Keeps what came of `rows`.
    pub fn keep(&self, rows: &[u8], result: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some((path, name)) = self.place(rows) else { return Ok(()) };
        // Aside first, so that under the name stands a whole one; a torn one is noticed and costs the work alone.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_extension(format!("{}-{count}.new", std::process::id()));
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&aside, [&check(&name, result), result].concat())?;
        fs::rename(&aside, &path)
    }

    fn place(&self, rows: &[u8]) -> Option<(PathBuf, [u8; DIGEST])> {
        let folder = self.folder.as_ref()?;
        let name = *blake3::keyed_hash(&self.key, rows).as_bytes();
        let hex = blake3::Hash::from(name).to_hex();
        Some((folder.join(&hex[..2]).join(&hex[2..]), name))
    }
}

/// Of an entry's name and content, so that neither another's nor a torn one passes.
fn check(name: &[u8; DIGEST], body: &[u8]) -> [u8; DIGEST] {
    *blake3::keyed_hash(name, body).as_bytes()
}

fn touch(path: &Path) {
    let touched = || {
        let file = File::open(path)?;
        let used = file.metadata()?.modified()?;
        if used.elapsed().is_ok_and(|it| it > TOUCH_EVERY) {
            file.set_modified(SystemTime::now())?;
        }
        io::Result::Ok(())
    };
    // At worst a sweep takes it earlier.
    let _ = touched();
}

/// How far a stage is that works row by row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub done: u64,
    pub of: u64,
    /// What is counted, e.g. `samples`.
    pub unit: String,
}

impl Reached {
    /// What a stage that was broken off left in the folder of its checkpoints.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(REACHED)).ok()?).ok()
    }

    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let aside = folder.join(format!("{REACHED}.new"));
        fs::write(&aside, serde_json::to_vec(self)?)?;
        fs::rename(aside, folder.join(REACHED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_again_by_its_page_and_its_rows_alone() {
        let place = tempfile::tempdir().unwrap();
        let page = |settings| Page::new(Some(place.path()), false, settings);
        page("judge a").keep(b"row 1", b"0.5").unwrap();
        page("judge a").keep(b"row 2", b"").unwrap();
        assert_eq!(page("judge a").recall(b"row 1").unwrap(), b"0.5");
        assert_eq!(page("judge a").recall(b"row 2").unwrap(), b"");
        assert_eq!(page("judge b").recall(b"row 1"), None);
        assert_eq!(page("judge a").recall(b"row 3"), None);
        assert_eq!(Page::new(Some(place.path()), true, "judge a").recall(b"row 1"), None);
        let blank = Page::blank();
        blank.keep(b"row", b"1").unwrap();
        assert_eq!(blank.recall(b"row"), None);
    }

    #[test]
    fn what_is_torn_damaged_or_anothers_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let page = Page::new(Some(place.path()), false, "judge");
        page.keep(b"one", b"0.5").unwrap();
        page.keep(b"two", b"0.7").unwrap();
        let [one, two] = [b"one", b"two"].map(|row| page.place(row).unwrap().0);
        let whole = fs::read(&one).unwrap();
        for length in 0..whole.len() {
            fs::write(&one, &whole[..length]).unwrap();
            assert_eq!(page.recall(b"one"), None, "{length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&one, damaged).unwrap();
            assert_eq!(page.recall(b"one"), None, "{at}");
        }
        fs::copy(&two, &one).unwrap();
        assert_eq!(page.recall(b"one"), None);
        page.keep(b"one", b"0.5").unwrap();
        assert_eq!(page.recall(b"one").unwrap(), b"0.5");
    }
}
