//! Deletes what nothing needs any more: actions first, then the blobs that no action reaches.
//!
//! Whoever counts on an action or a blob touches it, and nothing younger than the grace time is taken;
//! its age is looked at once more just before it goes. What a run finds gone nevertheless is a miss.
//! An action or a manifest that cannot be read ends the sweep: what it needs would look unneeded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::IoContext;
use crate::lease::now_in;
use crate::memo::Action;
use crate::owner::{Life, Process};
use crate::{Cache, CacheError, Claim, Digest, Fingerprint, Form};

/// After so long nobody on another machine works at something without touching it.
const ABANDONED: Duration = Duration::from_hours(24);

/// How far a sweep goes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Results that nobody used for so long go; checkpoints, what is kept of rows and damaged files too.
    pub unused_for: Option<Duration>,
    /// Results go, the longest unused first, until the others take no more; then checkpoints,
    /// and what is kept of rows, until all do.
    pub keep_bytes: Option<u64>,
    /// What is younger stays in any case.
    pub grace: Duration,
}

/// What was deleted, or would be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Actions: what stages made.
    pub results: Count,
    pub objects: Count,
    /// What dead processes left half-made.
    pub attempts: Count,
    pub checkpoints: Count,
    /// What stages computed row by row.
    pub ledger: Count,
    pub quarantine: Count,
    /// Folders of runs; theirs is not the cache's to judge.
    pub runs: Count,
    /// What stays, in blobs.
    pub kept: Count,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    pub number: usize,
    pub bytes: u64,
}

impl Count {
    pub fn add(&mut self, bytes: u64) {
        self.number += 1;
        self.bytes += bytes;
    }
}

impl Swept {
    /// All that goes.
    pub fn bytes(&self) -> u64 {
        let counts = [
            self.results,
            self.objects,
            self.attempts,
            self.checkpoints,
            self.ledger,
            self.quarantine,
            self.runs,
        ];
        counts.iter().map(|count| count.bytes).sum()
    }
}

struct Sweep<'a> {
    cache: &'a Cache,
    limits: &'a Limits,
    delete: bool,
    now: SystemTime,
    swept: Swept,
}

/// A result with what is needed to judge it.
struct Known {
    action: Action,
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Cache {
    /// Deletes what `limits` says and nobody needs, or only counts it. What `roots` made stays.
    pub fn sweep(
        &self,
        limits: &Limits,
        roots: &BTreeSet<Fingerprint>,
        delete: bool,
    ) -> Result<Swept, CacheError> {
        let now = now_in(&self.root().join("leases"));
        let mut sweep = Sweep { cache: self, limits, delete, now, swept: Swept::default() };
        let blobs = sweep.blobs()?;
        let wanted = sweep.results(roots, &blobs)?;
        sweep.objects(&blobs, &wanted)?;
        sweep.attempts()?;
        let taken = sweep.checkpoints()?;
        sweep.ledger(taken)?;
        sweep.quarantine()?;
        if delete {
            self.release_the_dead()?;
        }
        Ok(sweep.swept)
    }
}

impl Sweep<'_> {
    fn age(&self, since: SystemTime) -> Duration {
        self.now.duration_since(since).unwrap_or_default()
    }

    fn blobs(&self) -> Result<HashMap<Digest, u64>, CacheError> {
        let files = sharded(&self.cache.root().join("blobs"))?;
        let files = files.into_iter();
        Ok(files.filter_map(|(name, _, found)| Some((name.parse().ok()?, found.len()))).collect())
    }

    /// Lets results go; returns the blobs that the others need.
    fn results(
        &mut self,
        roots: &BTreeSet<Fingerprint>,
        blobs: &HashMap<Digest, u64>,
    ) -> Result<HashSet<Digest>, CacheError> {
        let mut known = Vec::new();
        for (name, path, found) in sharded(&self.cache.root().join("actions"))? {
            let Ok(fingerprint) = name.parse() else { continue };
            // Read without setting anything aside: that is for whoever wants to use it.
            let Some(action) = crate::memo::read(&path, &fingerprint)? else { continue };
            let used = found.modified().unwrap_or(self.now);
            known.push(Known { action, path, used, bytes: found.len() });
        }
        // Those that stay in any case first, then what was used last.
        known.sort_by_key(|it| (!self.stays(roots, it), std::cmp::Reverse(it.used)));
        let mut wanted = HashSet::new();
        let mut bytes = 0;
        let mut full = false;
        for it in known {
            let reached = self.reached(&it.action, &wanted)?;
            let more: u64 = reached.iter().filter_map(|digest| blobs.get(digest)).sum();
            if !self.stays(roots, &it) {
                full |= self.limits.keep_bytes.is_some_and(|most| bytes + more > most);
                let old = self.limits.unused_for.is_some_and(|most| self.age(it.used) > most);
                if (full || old) && self.remove(&it.path)? {
                    self.swept.results.add(it.bytes);
                    continue;
                }
            }
            bytes += more;
            wanted.extend(reached);
        }
        Ok(wanted)
    }

    fn stays(&self, roots: &BTreeSet<Fingerprint>, known: &Known) -> bool {
        roots.contains(&known.action.fingerprint) || self.age(known.used) <= self.limits.grace
    }

    /// The blobs of an action that are not among `known` yet.
    fn reached(
        &self,
        action: &Action,
        known: &HashSet<Digest>,
    ) -> Result<HashSet<Digest>, CacheError> {
        let mut reached = HashSet::new();
        for artifact in action.outputs.values().filter(|it| !known.contains(&it.digest)) {
            reached.insert(artifact.digest);
            if artifact.form == Form::Blob {
                continue;
            }
            match self.cache.tree(&artifact.digest) {
                Ok(folder) => reached.extend(folder.files.values().map(|file| file.digest)),
                // Nobody can use the folder any more.
                Err(CacheError::Missing { .. } | CacheError::Manifest { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        reached.retain(|digest| !known.contains(digest));
        Ok(reached)
    }

    fn objects(
        &mut self,
        blobs: &HashMap<Digest, u64>,
        wanted: &HashSet<Digest>,
    ) -> Result<(), CacheError> {
        for (digest, bytes) in blobs {
            if !wanted.contains(digest) && self.remove(&self.cache.file(digest))? {
                self.swept.objects.add(*bytes);
            } else {
                self.swept.kept.add(*bytes);
            }
        }
        Ok(())
    }

    /// Deletes a file, unless it is young by now. Says whether it goes, or would.
    fn remove(&self, path: &Path) -> Result<bool, CacheError> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).doing("look at", path),
        };
        if self.age(found.modified().unwrap_or(self.now)) <= self.limits.grace {
            return Ok(false);
        }
        if self.delete {
            return removed(fs::remove_file(path), path);
        }
        Ok(true)
    }

    fn attempts(&mut self) -> Result<(), CacheError> {
        for path in entries(&self.cache.root().join("attempts"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let tag = name.rsplit_once('-').map_or("", |(tag, _)| tag);
            let (bytes, touched) = measure(&path);
            let dead = match Process::life_of_tag(tag) {
                Life::Alive => false,
                Life::Dead => true,
                Life::Elsewhere => touched.is_some_and(|it| self.age(it) > ABANDONED),
            };
            if dead && (!self.delete || remove_all(&path)?) {
                self.swept.attempts.add(bytes);
            }
        }
        Ok(())
    }

    /// Lets states go that nobody wrote to for long, or that no room is left for beside the results; returns what results
    /// and states take then.
    fn checkpoints(&mut self) -> Result<u64, CacheError> {
        let mut states: Vec<_> = sharded(&self.cache.root().join("checkpoints"))?
            .into_iter()
            .filter_map(|(name, path, _)| {
                let (bytes, touched) = measure(&path);
                let age = self.age(touched?);
                Some((name.parse::<Fingerprint>().ok()?, path, bytes, age))
            })
            .collect();
        states.sort_by_key(|(.., age)| *age);
        let mut taken = self.swept.kept.bytes;
        for (fingerprint, path, bytes, age) in states {
            let old = self.limits.unused_for.is_some_and(|most| age > most);
            let full = self.limits.keep_bytes.is_some_and(|most| taken + bytes > most);
            if age <= self.limits.grace || !(old || full) {
                taken += bytes;
            } else if !self.delete {
                if self.cache.claimant(&fingerprint)?.is_none() {
                    self.swept.checkpoints.add(bytes);
                }
            } else {
                // While we hold the lease no stage can begin to go on from there.
                let claim = self.cache.claim(&fingerprint, "sweep", "")?;
                if matches!(claim, Claim::Held(_)) && remove_all(&path)? {
                    self.swept.checkpoints.add(bytes);
                }
            }
        }
        Ok(taken)
    }

    /// The same of what stages computed row by row; what results and states take comes first.
    fn ledger(&mut self, mut taken: u64) -> Result<(), CacheError> {
        let entries = sharded(&self.cache.root().join("ledger"))?.into_iter();
        let mut entries: Vec<_> = entries
            .map(|(_, path, found)| (path, found.len(), found.modified().unwrap_or(self.now)))
            .collect();
        entries.sort_by_key(|(.., used)| std::cmp::Reverse(*used));
        for (path, bytes, used) in entries {
            let old = self.limits.unused_for.is_some_and(|most| self.age(used) > most);
            let full = self.limits.keep_bytes.is_some_and(|most| taken + bytes > most);
            if (old || full) && self.remove(&path)? {
                self.swept.ledger.add(bytes);
            } else {
                taken += bytes;
            }
        }
        Ok(())
    }

    fn quarantine(&mut self) -> Result<(), CacheError> {
        let Some(unused_for) = self.limits.unused_for else { return Ok(()) };
        for path in entries(&self.cache.root().join("quarantine"))? {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            // A rename leaves the content's time; when the entry changed says when it came here.
            let old = changed(&found).is_some_and(|it| self.age(it) > unused_for);
            if old && (!self.delete || removed(fs::remove_file(&path), &path)?) {
                self.swept.quarantine.add(found.len());
            }
        }
        Ok(())
    }
}

fn changed(found: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(found.ctime()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Everything two levels below a folder, by the hash that the two names make.
pub(crate) fn sharded(folder: &Path) -> Result<Vec<(String, PathBuf, Metadata)>, CacheError> {
    let mut found = Vec::new();
    for shard in entries(folder)? {
        if !shard.is_dir() {
            continue;
        }
        for path in entries(&shard)? {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).doing("look at", &path),
            };
            let (Some(head), Some(tail)) = (shard.file_name(), path.file_name()) else { continue };
            let name = format!("{}{}", head.to_string_lossy(), tail.to_string_lossy());
            found.push((name, path, metadata));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.doing("list", folder)?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).doing("list", folder),
    }
}

/// The size of all files at or below `path`; what cannot be read counts nothing.
pub fn bytes_below(path: &Path) -> u64 {
    measure(path).0
}

/// The size of all files at or below `path`, and when the last of them was written.
fn measure(path: &Path) -> (u64, Option<SystemTime>) {
    let Ok(found) = fs::symlink_metadata(path) else { return (0, None) };
    let own = if found.is_dir() { 0 } else { found.len() };
    let below = if found.is_dir() { entries(path).unwrap_or_default() } else { Vec::new() };
    below
        .iter()
        .map(|path| measure(path))
        .fold((own, found.modified().ok()), |all, one| (all.0 + one.0, all.1.max(one.1)))
}

fn remove_all(path: &Path) -> Result<bool, CacheError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    removed(if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }, path)
}

/// Another sweep may have been quicker.
fn removed(result: std::io::Result<()>, path: &Path) -> Result<bool, CacheError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing("delete", path),
    }
}
