//! What belongs to a folder of the user's: all its files but what is no part of the work, that is caches, `.git` and
//! what a `.gitignore` in it, or whoever names it, leaves out.
//!
//! Links are followed where they lead to a file of the folder itself, or of the blobs that a snapshot of the Hugging
//! Face hub is made of; elsewhere they would bring in what nobody named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ignore::{
    WalkBuilder,
    overrides::{Override, OverrideBuilder},
};

use crate::error::IoContext;
use crate::tree::{Folder, MOST_FILES};
use crate::{Cache, CacheError};

const NO_PART: [&str; 2] = [".git", ".gradus"];

/// Whether `pattern` says what to leave out of a folder, as a line of a `.gitignore` does; else what is wrong with it.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.trim().is_empty() || pattern.starts_with(['!', '#']) {
        return Err("it says nothing that could be left out".to_owned());
    }
    let mut builder = OverrideBuilder::new("/");
    builder.add(&format!("!{pattern}")).map(drop).map_err(|error| error.to_string())
}

impl Cache {
    /// The files of `folder` but for what `ignore` leaves out, and where the bytes of each lie.
    pub fn user_files(
        &self,
        folder: &Path,
        ignore: &[String],
    ) -> Result<Folder<PathBuf>, CacheError> {
        let real = folder.canonicalize().doing("resolve", folder)?;
        let blobs = real.join("../../blobs").canonicalize().ok();
        let own = self.root().canonicalize().unwrap_or_else(|_| self.root().to_owned());
        let mut left_out = OverrideBuilder::new(&real);
        for pattern in ignore {
            // What is no pattern was refused before.
            let _ = left_out.add(&format!("!{pattern}"));
        }
        let mut walk = WalkBuilder::new(&real);
        walk.overrides(left_out.build().unwrap_or_else(|_| Override::empty()));
        walk.standard_filters(false).git_ignore(true).require_git(false);
        walk.filter_entry(move |entry| {
            let named = entry.file_name().to_str().is_some_and(|name| NO_PART.contains(&name));
            entry.depth() == 0 || !(named && entry.path().is_dir() || entry.path() == own)
        });
        let mut files = BTreeMap::new();
        let mut folders = BTreeSet::new();
        for entry in walk.build() {
            let entry = entry.map_err(|error| {
                let why = error
                    .into_io_error()
                    .unwrap_or_else(|| std::io::Error::other("it goes round in a circle"));
                CacheError::Io { doing: "list", path: folder.to_owned(), source: why }
            })?;
            let (path, kind) = (entry.path(), entry.file_type());
            let relative = path.strip_prefix(&real).unwrap_or(path);
            let shown = || folder.join(relative);
            let Some(relative) = relative.to_str() else {
                return Err(CacheError::Name { path: shown() });
            };
            if let Some((above, _)) = relative.rsplit_once('/') {
                folders.remove(above);
            }
            if kind.is_some_and(|kind| kind.is_dir()) {
                // Until something is found in it.
                if !relative.is_empty() {
                    folders.insert(relative.to_owned());
                }
                continue;
            }
            let target = if entry.path_is_symlink() {
                let target = path.canonicalize().ok().filter(|target| {
                    let of_hub =
                        blobs.as_deref().is_some_and(|blobs| target.parent() == Some(blobs));
                    target.is_file() && (target.starts_with(&real) || of_hub)
                });
                target.ok_or_else(|| CacheError::Symlink { path: shown() })?
            } else if kind.is_some_and(|kind| kind.is_file()) {
                path.to_owned()
            } else {
                return Err(CacheError::Special { path: shown() });
            };
            files.insert(relative.to_owned(), target);
            if files.len() > MOST_FILES {
                return Err(CacheError::TooMany { path: folder.to_owned(), most: MOST_FILES });
            }
        }
        if files.is_empty()
            && folders.is_empty()
            && fs::read_dir(&real).doing("list", folder)?.next().is_some()
        {
            return Err(CacheError::AllIgnored { path: folder.to_owned() });
        }
        Ok(Folder { files, empty: folders })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(cache: &Cache, folder: &Path) -> Vec<String> {
        cache.user_files(folder, &[]).unwrap().files.into_keys().collect()
    }

    #[test]
    fn what_is_named_is_left_out_and_leaves_no_empty_folder_behind() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::open(&place.path().join("cache")).unwrap();
        let folder = place.path().join("folder");
        for file in ["a.py", "runs/1/log", "runs/2/b.py", "deep/c.ckpt", "deep/d"] {
            fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            fs::write(folder.join(file), file).unwrap();
        }
        let of = |ignore: &[&str]| {
            let ignore: Vec<String> = ignore.iter().map(ToString::to_string).collect();
            cache.user_files(&folder, &ignore).unwrap()
        };
        let found = of(&["runs/", "*.ckpt"]);
        assert_eq!(found.files.into_keys().collect::<Vec<_>>(), ["a.py", "deep/d"]);
        assert!(found.empty.is_empty());
        assert_eq!(of(&[]).files.len(), 5);
        assert!(check_pattern("runs/").is_ok() && check_pattern("!x").is_err());
        assert!(check_pattern("a[").is_err());
    }

    #[test]
    fn caches_and_what_git_ignores_are_no_part_of_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for folder in ["src/.gradus/blobs", ".git/objects", "own-cache", "big"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let cache = Cache::open(&at("own-cache")).unwrap();
        fs::write(at(".gitignore"), "big/\n*.tmp\n").unwrap();
        for file in
            ["a", ".hidden", "x.tmp", "big/b", "src/c", "src/.gradus/d", ".git/e", "own-cache/f"]
        {
            fs::write(at(file), file).unwrap();
        }
        assert_eq!(names(&cache, place.path()), [".gitignore", ".hidden", "a", "src/c"]);
        fs::write(at("src/.gitignore"), "*\n").unwrap();
        let error = cache.user_files(&at("src"), &[]).unwrap_err();
        assert!(matches!(error, CacheError::AllIgnored { .. }), "{error}");
    }

    #[test]
    fn links_are_followed_within_the_folder_and_in_a_snapshot_of_the_hub() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let cache = Cache::open(&at("cache")).unwrap();
        let snapshot = at("models--x/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(at("models--x/blobs")).unwrap();
        fs::write(at("models--x/blobs/b1"), "config").unwrap();
        fs::write(snapshot.join("real"), "").unwrap();
        symlink("../../blobs/b1", snapshot.join("config.json")).unwrap();
        symlink("real", snapshot.join("same")).unwrap();
        assert_eq!(names(&cache, &snapshot), ["config.json", "real", "same"]);
        let (of_links, _) = cache.hash_path(&snapshot, &[]).unwrap();
        let copy = at("copy");
        fs::create_dir_all(&copy).unwrap();
        for (name, file) in cache.user_files(&snapshot, &[]).unwrap().files {
            fs::copy(file, copy.join(name)).unwrap();
        }
        assert_eq!(cache.hash_path(&copy, &[]).unwrap().0, of_links);
        for odd in ["/etc/hostname", "../../../cache", "nowhere"] {
            symlink(odd, snapshot.join("odd")).unwrap();
            let error = cache.user_files(&snapshot, &[]).unwrap_err();
            assert!(matches!(error, CacheError::Symlink { .. }), "{odd}: {error}");
            fs::remove_file(snapshot.join("odd")).unwrap();
        }
    }
}
