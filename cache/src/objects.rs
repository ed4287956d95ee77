//! Bytes named by their own digest. An object is written once: staged in the same file system,
//! made read-only, synced, renamed. One that is there already wins, if it is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::shard;
use crate::error::IoContext;
use crate::hashing::hash_file;
use crate::tree::{Folder, is_executable};
use crate::{Artifact, Attempt, Cache, CacheError, Digest, Form, tree};

/// Up to this size a blob is hashed again at its first use in a process.
const SMALL: u64 = 8 << 20;
/// A file that was touched lately is not touched again: each time costs a write to the disk.
const LATELY: Duration = Duration::from_mins(1);

/// Changes whenever a file's content may have changed: inode and ctime.
pub(crate) type Stamp = (u64, i64, i64);

/// A file that is hashed and waits for its place in the store.
pub(crate) struct Staged {
    pub(crate) source: PathBuf,
    pub(crate) digest: Digest,
}

impl Cache {
    /// Where the bytes of `digest` lie, if they are there.
    pub fn file(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs").join(shard(digest))
    }

    /// Checks an artifact's bytes before they are believed; bad ones go to quarantine.
    ///
    /// Small blobs are hashed once per process; of large ones only the size is checked.
    pub fn verify(&self, artifact: &Artifact) -> Result<bool, CacheError> {
        self.check(artifact, SMALL)
    }

    /// Checks an artifact like [`Cache::verify`], and hashes the large blobs too.
    pub fn verify_fully(&self, artifact: &Artifact) -> Result<bool, CacheError> {
        self.check(artifact, u64::MAX)
    }

    /// Copies an artifact to `to`, which must be free: a reflink where the file system has
    /// them. Never a hard link, through which its new owner could write into the store.
    pub fn materialise(&self, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
        if to.symlink_metadata().is_ok() {
            return Err(CacheError::Exists { path: to.to_owned() });
        }
        match artifact.form {
            Form::Blob => self.copy_out(artifact, to),
            Form::Tree => {
                let folder = self.tree(&artifact.digest)?;
                fs::create_dir_all(to).doing("make", to)?;
                for (path, file) in &folder.files {
                    self.copy_out(file, &to.join(path))?;
                }
                for path in folder.empty.iter().map(|path| to.join(path)) {
                    fs::create_dir_all(&path).doing("make", &path)?;
                }
                Ok(())
            }
        }
    }

    fn copy_out(&self, blob: &Artifact, to: &Path) -> Result<(), CacheError> {
        let digest = &blob.digest;
        let from = self.file(digest);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).doing("make", parent)?;
        }
        match reflink_copy::reflink_or_copy(&from, to) {
            Ok(_) => {}
            // A reflink of nothing is an error of another kind.
            Err(_) if !from.exists() => return Err(CacheError::Missing { digest: *digest }),
            Err(error) => return Err(error).doing("copy to", to),
        }
        let mode = if blob.executable { 0o755 } else { 0o644 };
        fs::set_permissions(to, Permissions::from_mode(mode)).doing("make writable", to)
    }

    fn check(&self, artifact: &Artifact, hash_up_to: u64) -> Result<bool, CacheError> {
        if artifact.form == Form::Blob {
            return self.check_blob(artifact, hash_up_to);
        }
        let files = match self.tree(&artifact.digest) {
            Ok(folder) => folder.files,
            Err(CacheError::Missing { .. }) => return Ok(false),
            Err(CacheError::Manifest { digest, why }) => {
                tracing::warn!(%digest, why, "manifest set aside");
                set_aside(&self.file(&digest), &self.quarantine())?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let manifest = self.file(&artifact.digest);
        if let Ok(found) = fs::symlink_metadata(&manifest) {
            touch(&manifest, &found);
        }
        if tree::total(&files) != Some(artifact.bytes) {
            return Ok(false);
        }
        let mut sound = true;
        for file in files.values() {
            sound &= self.check_blob(file, hash_up_to)?;
        }
        Ok(sound)
    }

    fn check_blob(&self, artifact: &Artifact, hash_up_to: u64) -> Result<bool, CacheError> {
        let path = self.file(&artifact.digest);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).doing("look at", &path),
        };
        let (found, stamp) = self.counted_on(&artifact.digest, &path, found);
        let mut sound = found.is_file() && found.len() == artifact.bytes;
        if sound && found.len() <= hash_up_to && self.seen(&artifact.digest) != Some(stamp) {
            sound = match hash(&path, found.len()) {
                Ok(digest) => digest == artifact.digest,
                Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Ok(false);
                }
                Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => {
                    false
                }
                Err(error) => return Err(error),
            };
            if sound {
                self.remember(artifact.digest, stamp);
            }
        }
        if !sound {
            tracing::warn!(digest = %artifact.digest, "damaged blob set aside");
            set_aside(&path, &self.quarantine())?;
        }
        Ok(sound)
    }

    /// Says that the blob is in use, and how it looks now.
    fn counted_on(&self, digest: &Digest, path: &Path, found: Metadata) -> (Metadata, Stamp) {
        let stamp = |found: &Metadata| (found.ino(), found.ctime(), found.ctime_nsec());
        let before = stamp(&found);
        if !touch(path, &found) {
            return (found, before);
        }
        let found = fs::symlink_metadata(path).unwrap_or(found);
        let now = stamp(&found);
        // Our own touch is no reason to hash it again.
        if self.seen(digest) == Some(before) {
            self.remember(*digest, now);
        }
        (found, now)
    }

    fn seen(&self, digest: &Digest) -> Option<Stamp> {
        self.0.seen.lock().ok()?.get(digest).copied()
    }

    fn remember(&self, digest: Digest, stamp: Stamp) {
        if let Ok(mut seen) = self.0.seen.lock() {
            seen.insert(digest, stamp);
        }
    }

    /// Moves files and folders into the store, synced as one batch.
    pub(crate) fn store(
        &self,
        staged: &BTreeMap<String, PathBuf>,
    ) -> Result<BTreeMap<String, Artifact>, CacheError> {
        let scratch = self.attempt()?;
        let mut queue = Vec::new();
        let mut outputs = BTreeMap::new();
        for (name, path) in staged {
            let artifact = stage(path, &scratch, &mut queue)?;
            outputs.insert(name.clone(), artifact);
        }
        self.place(queue)?;
        Ok(outputs)
    }

    /// Puts files into the store, synced as one batch.
    pub(crate) fn place(&self, mut queue: Vec<Staged>) -> Result<(), CacheError> {
        let mut taken = BTreeSet::new();
        let mut fresh = Vec::new();
        for staged in queue.drain(..) {
            if taken.insert(staged.digest) && !self.keeps(&staged)? {
                fs::set_permissions(&staged.source, Permissions::from_mode(0o444))
                    .doing("protect", &staged.source)?;
                // What a program copied with its times would look old to a sweep.
                set_now(&staged.source).doing("date", &staged.source)?;
                sync(&staged.source)?;
                fresh.push(staged);
            }
        }
        let mut folders = BTreeSet::new();
        for Staged { source, digest } in &fresh {
            let place = self.file(digest);
            if let Some(folder) = place.parent() {
                make_folder(folder)?;
                folders.insert(folder.to_owned());
            }
            fs::rename(source, &place).doing("move into", &place)?;
        }
        folders.iter().try_for_each(|folder| sync(folder))
    }

    /// Says whether the store already has this object, sound to the last byte.
    fn keeps(&self, staged: &Staged) -> Result<bool, CacheError> {
        let place = self.file(&staged.digest);
        let bytes = fs::metadata(&staged.source).doing("look at", &staged.source)?.len();
        let wanted = Artifact::blob(staged.digest, bytes);
        if !self.check_blob(&wanted, u64::MAX)? {
            return Ok(false);
        }
        // A sweep spares what is young; this object is in use again.
        let _ = set_now(&place);
        Ok(true)
    }
}

fn stage(path: &Path, scratch: &Attempt, queue: &mut Vec<Staged>) -> Result<Artifact, CacheError> {
    let kind = fs::symlink_metadata(path).doing("look at", path)?.file_type();
    if !kind.is_dir() {
        return stage_file(path, scratch, queue);
    }
    let folder = tree::walk(path)?.map(|path| stage_file(&path, scratch, queue))?;
    let (artifact, manifest) = manifest(&folder, path)?;
    let source = scratch.path().join(queue.len().to_string());
    fs::write(&source, manifest).doing("write", &source)?;
    queue.push(Staged { source, digest: artifact.digest });
    Ok(artifact)
}

fn stage_file(
    path: &Path,
    scratch: &Attempt,
    queue: &mut Vec<Staged>,
) -> Result<Artifact, CacheError> {
    let found = fs::symlink_metadata(path).doing("look at", path)?;
    if found.is_symlink() {
        return Err(CacheError::Symlink { path: path.to_owned() });
    }
    if !found.is_file() {
        return Err(CacheError::Special { path: path.to_owned() });
    }
    let executable = is_executable(&found);
    let here = fs::metadata(scratch.path()).doing("look at", scratch.path())?;
    // Another name of the file could write to it later; another file system cannot rename.
    let source = if found.nlink() > 1 || found.dev() != here.dev() {
        let copy = scratch.path().join(queue.len().to_string());
        reflink_copy::reflink_or_copy(path, &copy).doing("copy", path)?;
        copy
    } else {
        path.to_owned()
    };
    fs::set_permissions(&source, Permissions::from_mode(0o444)).doing("protect", &source)?;
    let bytes = fs::metadata(&source).doing("look at", &source)?.len();
    let digest = hash(&source, bytes)?;
    queue.push(Staged { source, digest });
    Ok(Artifact { executable, ..Artifact::blob(digest, bytes) })
}

/// The artifact of the folder `path` with `folder` in it, and its manifest.
pub(crate) fn manifest(
    folder: &Folder<Artifact>,
    path: &Path,
) -> Result<(Artifact, Vec<u8>), CacheError> {
    let bytes =
        tree::to_bytes(folder).map_err(|why| CacheError::Unkept { path: path.to_owned(), why })?;
    let digest = Digest::of(&bytes);
    let size = tree::total(&folder.files).unwrap_or(u64::MAX);
    Ok((Artifact { digest, form: Form::Tree, bytes: size, executable: false }, bytes))
}

/// Hashes a file of the store.
pub(crate) fn hash(path: &Path, bytes: u64) -> Result<Digest, CacheError> {
    File::open(path).and_then(|file| hash_file(&file, bytes)).doing("read", path)
}

/// Actions are smaller.
const LARGEST_COPY: u64 = 1 << 20;

/// Tells a sweep that somebody counts on this file, unless it was told lately. Says whether it did.
pub(crate) fn touch(path: &Path, found: &Metadata) -> bool {
    let lately = found.modified().is_ok_and(|it| it.elapsed().is_ok_and(|age| age < LATELY));
    // A cache that cannot be written to is not swept either.
    !lately && (set_now(path).is_ok() || made_anew(path, found))
}

/// Of a small file of somebody else in the group, whose times only they may set: puts a copy in its place.
fn made_anew(path: &Path, found: &Metadata) -> bool {
    // `actions/ab/cd…` or `blobs/ab/cd…`; what a crash leaves among the attempts goes with them.
    let scratch = path.ancestors().nth(3).unwrap_or(path).join("attempts");
    let made = || {
        let mut file = shared_file(&scratch)?;
        file.write_all(&fs::read(path)?)?;
        file.as_file().set_permissions(found.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    found.len() <= LARGEST_COPY && made().is_ok()
}

/// A new file that whoever may read the cache can read: others made by `tempfile` are their maker's alone.
pub(crate) fn shared_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Sets a file's times by the clock of its file system, which may be on another machine.
pub(crate) fn set_now(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a path that ends in a null byte, and null for "now".
    match unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The bytes that are free on a file's disk.
pub(crate) fn room(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends in a null byte, and room for the answer.
    let asked = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (asked == 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

fn sync(path: &Path) -> Result<(), CacheError> {
    File::open(path).and_then(|file| file.sync_all()).doing("sync", path)
}

/// Moves a damaged file to where somebody can look at it.
pub(crate) fn set_aside(path: &Path, quarantine: &Path) -> Result<(), CacheError> {
    let name = path.iter().rev().take(3).map(|part| part.to_string_lossy()).collect::<Vec<_>>();
    let name = name.into_iter().rev().collect::<Vec<_>>().join("-");
    let mut number = 0;
    let place = loop {
        let place = quarantine.join(format!("{name}.{number}"));
        if !place.exists() {
            break place;
        }
        number += 1;
    };
    match fs::rename(path, &place).doing("set aside", path) {
        Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        // It is not believed where it lies either.
        Err(CacheError::ReadOnly { .. }) => Ok(()),
        moved => moved,
    }
}

/// Writes a small file so that it is there whole or not at all, whatever happens.
pub(crate) fn write_durably(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let mut file = tempfile::NamedTempFile::new_in(scratch).doing("write in", scratch)?;
    file.write_all(bytes).doing("write", path)?;
    file.as_file().set_permissions(Permissions::from_mode(0o444)).doing("protect", path)?;
    file.as_file().sync_all().doing("sync", path)?;
    let folder = path.parent().unwrap_or(path);
    make_folder(folder)?;
    file.persist(path).map_err(|error| error.error).doing("write", path)?;
    sync(folder)
}

/// Makes a folder that outlives a loss of power, unless it is there.
pub(crate) fn make_folder(folder: &Path) -> Result<(), CacheError> {
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder).doing("make", folder)
        }
        Err(error) => Err(error).doing("make", folder),
    }
}
