//! Files whose saving is noticed, by looking at them again and again.
//!
//! Looking works on every file system, over every network, and with every editor, also with those that
//! put a new file in the old one's place.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::plan::{From, Plan};

/// How files looked at one time; one that was not there has no stamp.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched(BTreeMap<PathBuf, Option<Stamp>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Watched {
    /// Looks at `paths`, and at all that lies in those that are folders.
    pub fn look(paths: &[PathBuf]) -> Self {
        let mut found = BTreeMap::new();
        let mut left: Vec<PathBuf> = paths.to_vec();
        while let Some(path) = left.pop() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
            let stamp = stamp(&path);
            found.insert(path, stamp);
        }
        Self(found)
    }

    /// The first file that looks different from how it did in `before`.
    pub fn changed_since<'w>(&'w self, before: &'w Self) -> Option<&'w Path> {
        let differs = |path: &&PathBuf| self.0.get(*path) != before.0.get(*path);
        // A folder changes with what lies in it, and the file says more.
        let mut paths: Vec<_> = self.0.keys().chain(before.0.keys()).filter(differs).collect();
        paths.sort_by_key(|path| (path.is_dir(), *path));
        paths.first().map(|path| path.as_path())
    }

    pub fn count(&self) -> usize {
        self.0.keys().filter(|path| !path.is_dir()).count()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    let modified = (found.mtime(), found.mtime_nsec());
    Some(Stamp { inode: found.ino(), bytes: found.len(), modified })
}

impl Plan {
    /// All files and folders of the user's that the `selected` stages read, and the files it includes.
    pub fn files(&self, selected: &[usize]) -> Vec<PathBuf> {
        let stages = || selected.iter().map(|index| &self.stages[*index]);
        let named = stages().flat_map(|stage| &stage.files).map(|(_, path)| path.clone());
        let inputs = stages().flat_map(|stage| &stage.inputs).filter_map(|wire| match &wire.from {
            From::File(path) => Some(path.clone()),
            From::Stage(..) => None,
        });
        let mut files: Vec<_> = named.chain(inputs).chain(self.included.iter().cloned()).collect();
        files.sort();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_made_or_removed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (file, inside) = (folder.path().join("a"), folder.path().join("deep/b"));
        fs::write(&file, "1").unwrap();
        let look = || Watched::look(&[folder.path().to_owned()]);
        let before = look();
        assert_eq!(look().changed_since(&before), None);
        fs::write(&file, "12").unwrap();
        assert_eq!(look().changed_since(&before), Some(file.as_path()));
        let before = look();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(&inside, "").unwrap();
        assert_eq!(look().changed_since(&before), Some(inside.as_path()));
        let before = look();
        fs::remove_file(&inside).unwrap();
        assert_eq!(look().changed_since(&before), Some(inside.as_path()));
    }
}
