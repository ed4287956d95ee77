//! In tests, any operation on the disk can fail, or be the last before a crash.
//!
//! Every operation whose error is reported passes [`strike`], so counting them reaches each place, also
//! those that are written later, without naming any. Not part of any build but tests.

use std::cell::Cell;
use std::io;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Error(io::ErrorKind),
    /// Unwinds from there, as a crash that leaves the disk as it is just then.
    Crash,
}

thread_local! {
    /// So many operations succeed before the fault; of this thread alone, so tests run side by side.
    static PLAN: Cell<Option<(usize, Fault)>> = const { Cell::new(None) };
}

/// Runs `work` with a fault after its `n`th operation. Also says whether it came so far.
pub(crate) fn with<T>(n: usize, fault: Fault, work: impl FnOnce() -> T) -> (Option<T>, bool) {
    PLAN.set(Some((n, fault)));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    (done.ok(), PLAN.take().is_none())
}

pub(crate) fn strike<T>(done: io::Result<T>) -> io::Result<T> {
    match PLAN.get() {
        Some((0, fault)) => {
            PLAN.set(None);
            match fault {
                Fault::Error(kind) => Err(kind.into()),
                // No message: the test expects it.
                Fault::Crash => std::panic::resume_unwind(Box::new("crash")),
            }
        }
        Some((n, fault)) => {
            PLAN.set(Some((n - 1, fault)));
            done
        }
        None => done,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::{Action, Cache, CacheError, Claim, Digest, Fingerprint, Limits};

    const FAULTS: [Fault; 3] = [
        Fault::Error(io::ErrorKind::StorageFull),
        Fault::Error(io::ErrorKind::PermissionDenied),
        Fault::Crash,
    ];

    fn key(name: &str) -> Fingerprint {
        Fingerprint::of(name.as_bytes())
    }

    fn commit(cache: &Cache, name: &str) -> Result<Action, CacheError> {
        let attempt = cache.attempt()?;
        let (file, folder) = (attempt.path().join("file"), attempt.path().join("folder"));
        fs::write(&file, name).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("one"), format!("{name} 1")).unwrap();
        fs::write(folder.join("two"), "shared by all").unwrap();
        let staged = [("file".to_owned(), file), ("folder".to_owned(), folder)];
        cache.commit(&key(name), &BTreeMap::from(staged), &serde_json::json!(null))
    }

    /// In memory where there is such a place: hundreds of caches are synced here.
    fn fresh() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
    }

    fn is_there(cache: &Cache, name: &str) -> bool {
        let Some(action) = cache.recall(&key(name)).unwrap() else { return false };
        let sound = action.outputs.values().all(|it| cache.verify_fully(it).unwrap());
        assert!(sound, "`{name}` is remembered and its bytes are not");
        true
    }

    /// Every stage's work as the engine does it, from the lease to the copy.
    fn work(root: &Path) -> Result<(), CacheError> {
        let cache = Cache::open(root)?;
        let Claim::Held(_lease) = cache.claim(&key("new"), "run", "stage")? else {
            panic!("nobody else is at it")
        };
        let action = commit(&cache, "new")?;
        cache.recall(&key("new"))?;
        for (name, artifact) in &action.outputs {
            cache.verify(artifact)?;
            let to = root.join("copies").join(name);
            let _ = fs::remove_dir_all(&to);
            let _ = fs::remove_file(&to);
            cache.materialise(artifact, &to)?;
        }
        let limits = Limits { unused_for: None, keep_bytes: None, grace: Duration::ZERO };
        cache.sweep(&limits, &BTreeSet::new(), true)?;
        Ok(())
    }

    fn assert_promises(root: &Path, has_old: bool, place: &str) {
        let cache = Cache::open(root).unwrap();
        assert_eq!(is_there(&cache, "old"), has_old, "{place}: what was finished is lost");
        is_there(&cache, "new");
        for path in files_below(&cache.root().join("blobs")) {
            let digest = Digest::of(&fs::read(&path).unwrap());
            assert_eq!(cache.file(&digest), path, "{place}: half-written under its name");
        }
        let leases = files_below(&cache.root().join("leases"));
        assert!(leases.is_empty(), "{place}: a lease stayed: {leases:?}");
        assert!(files_below(&cache.root().join("quarantine")).is_empty(), "{place}");
        work(root).unwrap();
        assert!(is_there(&cache, "new"), "{place}: it does not go on");
    }

    #[test]
    fn whatever_fails_or_crashes_finished_work_stays_and_the_rest_can_be_done_again() {
        let empty = [(false, Fault::Crash)].into_iter();
        for (has_old, fault) in empty.chain(FAULTS.map(|fault| (true, fault))) {
            let mut n = 0;
            loop {
                let folder = fresh();
                let root = folder.path();
                if has_old {
                    commit(&Cache::open(root).unwrap(), "old").unwrap();
                }
                let (done, struck) = with(n, fault, || work(root));
                if !struck {
                    done.unwrap().unwrap();
                    break;
                }
                let place = format!("{fault:?} after {n} operations");
                assert_promises(root, has_old, &place);
                n += 1;
            }
            assert!(n > 40, "only {n} operations were reached");
        }
    }

    #[test]
    fn a_full_disk_is_named_wherever_it_is_met() {
        let mut n = 0;
        loop {
            let folder = fresh();
            let full = Fault::Error(io::ErrorKind::StorageFull);
            let (done, struck) = with(n, full, || work(folder.path()));
            if !struck {
                break;
            }
            if let Err(error) = done.unwrap() {
                let words = error.to_string();
                assert!(words.contains("its disk is full"), "{n}: {words}");
            }
            n += 1;
        }
    }
}
