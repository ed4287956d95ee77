//! Leases: of all processes on a cache, one at a time computes a fingerprint.
//!
//! A lease is a file that only one can make. That of a dead owner is replaced by whoever first holds
//! `KEY.TOKEN`, a lease on replacing just this one, got in the same way. So exactly one wins, at no
//! instant is the place free for another, and one who dies while replacing leaves only a dead lease.
//! An owner that is alive, even stopped, is never robbed; one on another machine, or in another
//! container, counts as alive while its heartbeat is no older than [`SILENT_FOR`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::IoContext;
use crate::objects::shared_file;
use crate::owner::{Life, Process};
use crate::{Cache, CacheError, Fingerprint};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// A process that cannot be asked is given up when its heartbeat is older.
pub const SILENT_FOR: Duration = Duration::from_mins(3);
/// So many processes would have to die while replacing each other.
const DEEPEST: usize = 6;

/// What the names of leases of whole runs begin with.
const RUN: &str = "run-";

/// Who holds a lease, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    #[serde(flatten)]
    pub process: Process,
    pub run: String,
    pub stage: String,
    /// In seconds since 1970.
    pub since: u64,
    /// Tells this lease from every other.
    token: String,
}

/// An answer to [`Cache::claim`].
#[derive(Debug)]
pub enum Claim {
    Held(Lease),
    Busy(Owner),
}

/// The right to compute one fingerprint, given back on drop.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    content: Vec<u8>,
    /// Its end stops the heartbeat.
    _heart: Option<Sender<()>>,
}

/// A lease as it lies on the disk.
struct Found {
    content: Vec<u8>,
    owner: Option<Owner>,
    alive: bool,
}

impl Cache {
    /// Takes the lease on computing `fingerprint`, unless a living process has it.
    pub fn claim(
        &self,
        fingerprint: &Fingerprint,
        run: &str,
        stage: &str,
    ) -> Result<Claim, CacheError> {
        acquire(&self.leases(), &fingerprint.to_string(), run, stage)
    }

    /// Marks a run as under way for as long as the lease is held.
    pub fn claim_run(&self, run: &str) -> Result<Claim, CacheError> {
        acquire(&self.leases(), &run_key(run), run, "")
    }

    /// Who computes `fingerprint` now, if anybody does.
    pub fn claimant(&self, fingerprint: &Fingerprint) -> Result<Option<Owner>, CacheError> {
        let path = self.leases().join(fingerprint.to_string());
        Ok(look(&path)?.filter(|found| found.alive).map(Found::into_owner))
    }

    /// The runs that are under way.
    pub fn live_runs(&self) -> Result<BTreeSet<String>, CacheError> {
        let mut live = BTreeSet::new();
        for name in self.lease_names()? {
            if let Some(run) = name.strip_prefix(RUN)
                && look(&self.leases().join(&name))?.is_some_and(|found| found.alive)
            {
                live.insert(run.to_owned());
            }
        }
        Ok(live)
    }

    /// Removes the leases of the dead, and what they left half-made.
    pub(crate) fn release_the_dead(&self) -> Result<(), CacheError> {
        let folder = self.leases();
        for name in self.lease_names()? {
            let path = folder.join(&name);
            if name.starts_with('.') {
                let made = fs::metadata(&path).and_then(|found| found.modified());
                if made.is_ok_and(|it| it.elapsed().is_ok_and(|age| age > SILENT_FOR)) {
                    let _ = fs::remove_file(&path);
                }
            } else if look(&path)?.is_some_and(|found| !found.alive) {
                // Taken over like any other, and given back at once.
                drop(acquire(&folder, &name, "sweep", "")?);
            }
        }
        Ok(())
    }

    fn lease_names(&self) -> Result<Vec<String>, CacheError> {
        let folder = self.leases();
        let entries = fs::read_dir(&folder).doing("list", &folder)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn leases(&self) -> PathBuf {
        self.root().join("leases")
    }
}

fn run_key(run: &str) -> String {
    format!("{RUN}{run}")
}

fn acquire(folder: &Path, key: &str, run: &str, stage: &str) -> Result<Claim, CacheError> {
    let (file, content) = write(folder, run, stage)?;
    Ok(match take(folder, key, file, run, stage)? {
        Err(owner) => Claim::Busy(owner),
        Ok(file) => {
            let path = folder.join(key);
            Claim::Held(Lease { path, content, _heart: beat(file) })
        }
    })
}

/// Puts `file` at `key`; an error of the inner kind names who is there instead.
fn take(
    folder: &Path,
    key: &str,
    mut file: NamedTempFile,
    run: &str,
    stage: &str,
) -> Result<Result<File, Owner>, CacheError> {
    let path = folder.join(key);
    Ok(()).doing("make the lease", &path)?;
    loop {
        file = match file.persist_noclobber(&path) {
            Ok(file) => return Ok(Ok(file)),
            Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => refused.file,
            Err(refused) => return Err(refused.error).doing("make the lease", &path),
        };
        let Some(found) = look(&path)? else { continue };
        if found.alive || key.matches('.').count() >= DEEPEST {
            return Ok(Err(found.into_owner()));
        }
        let guard = format!("{key}.{}", name_of(&found.content));
        let _guard = match acquire(folder, &guard, run, stage)? {
            Claim::Held(guard) => guard,
            Claim::Busy(owner) => return Ok(Err(owner)),
        };
        // Whoever replaced it in between has held this guard before us.
        if look(&path)?.is_some_and(|now| now.content == found.content) {
            tracing::info!(lease = key, "the lease of a dead process is taken over");
            let file = file.persist(&path).map_err(|refused| refused.error);
            return file.map(Ok).doing("take over the lease", &path);
        }
    }
}

/// Writes a lease of this process aside.
fn write(folder: &Path, run: &str, stage: &str) -> Result<(NamedTempFile, Vec<u8>), CacheError> {
    fs::create_dir_all(folder).doing("make", folder)?;
    let mut file = shared_file(folder).doing("write in", folder)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let owner = Owner {
        process: Process::own().clone(),
        run: run.to_owned(),
        stage: stage.to_owned(),
        since: now.as_secs(),
        // The name of a file that nobody else could make, and the time.
        token: format!("{}-{}", file.path().display(), now.as_nanos()),
    };
    let content = serde_json::to_vec(&owner).map_err(CacheError::Record)?;
    file.write_all(&content).doing("write", file.path())?;
    Ok((file, content))
}

fn look(path: &Path) -> Result<Option<Found>, CacheError> {
    let read = || {
        let beaten = fs::metadata(path)?.modified()?;
        Ok((fs::read(path)?, beaten))
    };
    let (content, beaten) = match read() {
        Ok(found) => found,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error).doing("read the lease", path),
    };
    // After a power cut anything may stand there: then the heartbeat alone decides.
    let owner: Option<Owner> = serde_json::from_slice(&content).ok();
    let life = owner.as_ref().map_or(Life::Elsewhere, |owner| owner.process.life());
    let alive = match life {
        Life::Alive => true,
        Life::Dead => false,
        Life::Elsewhere => {
            let age = now_in(path.parent().unwrap_or(path)).duration_since(beaten);
            // A heartbeat from the future comes from a clock that was set back.
            age.map_or(true, |age| age <= SILENT_FOR)
        }
    };
    Ok(Some(Found { content, owner, alive }))
}

/// What time it is for the file system, which may lie on a machine with another clock.
pub(crate) fn now_in(folder: &Path) -> SystemTime {
    tempfile::Builder::new()
        .prefix(".now-")
        .tempfile_in(folder)
        .and_then(|file| file.as_file().metadata()?.modified())
        .unwrap_or_else(|_| SystemTime::now())
}

/// `ESTALE` is how a network file system says that a file went away.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESTALE)
}

/// A short name for what a lease holds, which its token makes unique.
fn name_of(content: &[u8]) -> String {
    blake3::hash(content).to_hex()[..16].to_owned()
}

/// Touches the lease until the sender is dropped. Without a thread to spare it goes without.
fn beat(file: File) -> Option<Sender<()>> {
    let (heart, stopped) = mpsc::channel::<()>();
    let thread = thread::Builder::new().name("heartbeat".to_owned()).stack_size(64 << 10);
    let beating = thread.spawn(move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            touch(&file);
        }
    });
    beating.is_ok().then_some(heart)
}

/// Sets a file's times by the clock of its file system, not ours.
fn touch(file: &File) {
    // SAFETY: an open descriptor, and null for "now".
    if unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "a heartbeat failed");
    }
}

impl Found {
    fn into_owner(self) -> Owner {
        self.owner.unwrap_or_else(|| Owner {
            process: Process::unknown(),
            run: "unknown".to_owned(),
            stage: String::new(),
            since: 0,
            token: String::new(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // While we live nobody on this machine replaces it, so it is ours until it is removed.
        match fs::read(&self.path) {
            Ok(content) if content == self.content => {
                if let Err(error) = fs::remove_file(&self.path) {
                    let path = self.path.display();
                    tracing::warn!(%error, %path, "a lease stays until this process ends");
                }
            }
            Ok(_) => tracing::warn!(path = %self.path.display(), "a lease was taken away"),
            Err(error) => tracing::warn!(%error, path = %self.path.display(), "a lease is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn fresh() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        (root, cache)
    }

    fn key() -> Fingerprint {
        Fingerprint::of(b"a")
    }

    fn claim(cache: &Cache) -> Claim {
        cache.claim(&key(), "run", "stage").unwrap()
    }

    fn held(cache: &Cache) -> Option<Lease> {
        match claim(cache) {
            Claim::Held(lease) => Some(lease),
            Claim::Busy(_) => None,
        }
    }

    /// Leaves a lease of `process` at `name`, last touched so long ago; returns its own name.
    fn leave(cache: &Cache, name: &str, process: &Process, ago: Duration) -> String {
        let token = format!("token of {name}");
        let owner = Owner {
            process: process.clone(),
            run: "old".to_owned(),
            stage: "train".to_owned(),
            since: 7,
            token,
        };
        let content = serde_json::to_vec(&owner).unwrap();
        let path = cache.leases().join(name);
        fs::write(&path, &content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
        name_of(&content)
    }

    fn files(cache: &Cache) -> usize {
        fs::read_dir(cache.leases()).unwrap().count()
    }

    /// How many of many threads get the lease, which each keeps until all have tried.
    fn winners(cache: &Cache) -> usize {
        let (all, won) = (Barrier::new(16), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    all.wait();
                    let lease = held(cache);
                    won.fetch_add(usize::from(lease.is_some()), Ordering::Relaxed);
                    all.wait();
                });
            }
        });
        won.into_inner()
    }

    #[test]
    fn one_of_many_gets_a_free_lease() {
        let (_root, cache) = fresh();
        for _ in 0..20 {
            assert_eq!(winners(&cache), 1);
            assert_eq!(files(&cache), 0, "a lease or something half-made stayed");
        }
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let (_root, cache) = fresh();
        let lease = held(&cache).unwrap();
        let Claim::Busy(owner) = claim(&cache) else { panic!("two have it") };
        assert_eq!((owner.process.pid, owner.run.as_str()), (Process::own().pid, "run"));
        assert_eq!(cache.claimant(&key()).unwrap().as_ref(), Some(&owner));
        drop(lease);
        assert_eq!(cache.claimant(&key()).unwrap(), None);
        assert!(held(&cache).is_some());
    }

    #[test]
    fn a_dead_owner_is_replaced_by_exactly_one() {
        let (_root, cache) = fresh();
        for _ in 0..20 {
            leave(&cache, &key().to_string(), &Process::dead(), Duration::ZERO);
            assert_eq!(cache.claimant(&key()).unwrap(), None);
            assert_eq!(winners(&cache), 1);
            assert_eq!(files(&cache), 0);
        }
    }

    #[test]
    fn whoever_died_while_replacing_is_replaced_too() {
        let (_root, cache) = fresh();
        for _ in 0..20 {
            let mut name = key().to_string();
            for _ in 0..3 {
                let token = leave(&cache, &name, &Process::dead(), Duration::ZERO);
                name = format!("{name}.{token}");
            }
            assert_eq!(winners(&cache), 1);
            assert_eq!(files(&cache), 0);
        }
    }

    #[test]
    fn a_living_owner_is_never_robbed_however_old_its_heartbeat() {
        let (_root, cache) = fresh();
        leave(&cache, &key().to_string(), Process::own(), Duration::from_hours(9));
        assert_eq!(winners(&cache), 0);
        assert!(cache.claimant(&key()).unwrap().is_some());
    }

    #[test]
    fn of_another_machine_the_heartbeat_decides() {
        let (_root, cache) = fresh();
        let name = key().to_string();
        for ago in [Duration::ZERO, SILENT_FOR / 2] {
            leave(&cache, &name, &Process::elsewhere(), ago);
            let Claim::Busy(owner) = claim(&cache) else { panic!("robbed after {ago:?}") };
            assert_eq!(owner.process.host, "elsewhere");
        }
        leave(&cache, &name, &Process::elsewhere(), SILENT_FOR * 2);
        assert_eq!(winners(&cache), 1);
    }

    #[test]
    fn a_lease_that_nobody_can_read_blocks_only_until_it_is_old() {
        let (_root, cache) = fresh();
        let path = cache.leases().join(key().to_string());
        fs::write(&path, "{").unwrap();
        assert!(held(&cache).is_none());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - SILENT_FOR * 2).unwrap();
        assert_eq!(winners(&cache), 1);
    }

    #[test]
    fn only_ones_own_lease_is_removed() {
        let (_root, cache) = fresh();
        let lease = held(&cache).unwrap();
        leave(&cache, &key().to_string(), &Process::elsewhere(), Duration::ZERO);
        drop(lease);
        assert_eq!(cache.claimant(&key()).unwrap().unwrap().run, "old");
    }

    #[test]
    fn the_heart_beats_on_the_lease_itself() {
        let (_root, cache) = fresh();
        let _lease = held(&cache).unwrap();
        let path = cache.leases().join(key().to_string());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        touch(&file);
        assert!(fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap() < SILENT_FOR);
    }
}
