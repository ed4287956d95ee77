//! Folders: a manifest of relative path → blob, kept as a blob itself. Its JSON is canonical,
//! so equal folders have equal digests. Kept are what a file holds, whether it may be run, and empty folders.
//!
//! A manifest may come from elsewhere: nothing in it is believed before [`parse`] has seen it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::IoContext;
use crate::{Artifact, Cache, CacheError, Digest, Form};

/// In one folder.
pub const MOST_FILES: usize = 200_000;
/// Larger than any honest manifest.
pub const MOST_BYTES: u64 = 64 << 20;
const MOST_PATH: usize = 4096;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    gradus_tree: u32,
    files: BTreeMap<String, Artifact>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    empty: BTreeSet<String>,
}

/// What is in a folder, by relative path.
#[derive(Debug, Clone)]
pub struct Folder<T> {
    pub files: BTreeMap<String, T>,
    /// The folders in it with nothing in them.
    pub empty: BTreeSet<String>,
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Self { files: BTreeMap::new(), empty: BTreeSet::new() }
    }
}

impl<T> Folder<T> {
    pub(crate) fn map<U>(
        self,
        mut each: impl FnMut(T) -> Result<U, CacheError>,
    ) -> Result<Folder<U>, CacheError> {
        let files = self.files.into_iter().map(|(path, file)| Ok((path, each(file)?)));
        Ok(Folder { files: files.collect::<Result<_, CacheError>>()?, empty: self.empty })
    }
}

impl Cache {
    /// All files of a folder that is no input of a person's, by relative path.
    pub fn all_files(&self, folder: &Path) -> Result<BTreeMap<String, PathBuf>, CacheError> {
        Ok(walk(folder)?.files)
    }

    /// Reads what a folder holds.
    pub fn tree(&self, digest: &Digest) -> Result<Folder<Artifact>, CacheError> {
        let path = self.file(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(CacheError::Missing { digest: *digest });
            }
            Err(error) => return Err(error).doing("open", &path),
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).doing("read", &path)?;
        parse(&bytes, digest).map_err(|why| CacheError::Manifest { digest: *digest, why })
    }
}

pub(crate) fn parse(bytes: &[u8], digest: &Digest) -> Result<Folder<Artifact>, String> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("larger than {MOST_BYTES} bytes"));
    }
    if Digest::of(bytes) != *digest {
        return Err("its content has another digest".to_owned());
    }
    let Manifest { gradus_tree, files, empty } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if gradus_tree != VERSION {
        return Err(format!("version {gradus_tree} is unknown"));
    }
    if files.len() + empty.len() > MOST_FILES {
        return Err(format!("more than {MOST_FILES} files"));
    }
    for (path, artifact) in &files {
        plain(path)?;
        if artifact.form != Form::Blob {
            return Err(format!("`{path}` is not a file"));
        }
    }
    for path in files.keys().chain(&empty) {
        if let Some(above) = above(path).find(|above| files.contains_key(*above)) {
            return Err(format!("`{above}` is both a file and a folder"));
        }
        if let Some(above) = above(path).find(|above| empty.contains(*above)) {
            return Err(format!("`{above}` is not empty"));
        }
    }
    for path in &empty {
        plain(path)?;
        if files.contains_key(path) {
            return Err(format!("`{path}` is both a file and a folder"));
        }
    }
    total(&files).ok_or("its sizes overflow")?;
    // Also catches repeated keys, of which serde_json keeps the last.
    let folder = Folder { files, empty };
    if to_bytes(&folder).as_deref() != Ok(bytes) {
        return Err("not in canonical form".to_owned());
    }
    Ok(folder)
}

/// All folders that `path` lies in.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn plain(path: &str) -> Result<(), String> {
    let odd = path.len() > MOST_PATH
        || path.contains(['\0', '\\'])
        || path.split('/').any(|part| matches!(part, "" | "." | "..") || part.len() > 255);
    if odd {
        Err(format!(
            "`{path}` is not a plain relative path, without backslashes and of parts of at most 255 bytes",
            path = path.escape_debug()
        ))
    } else {
        Ok(())
    }
}

pub(crate) fn total(files: &BTreeMap<String, Artifact>) -> Option<u64> {
    files.values().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes))
}

/// The canonical bytes of a manifest. Fails only for what [`parse`] would refuse.
pub(crate) fn to_bytes(folder: &Folder<Artifact>) -> Result<Vec<u8>, String> {
    let Folder { files, empty } = folder.clone();
    files.keys().chain(&empty).try_for_each(|path| plain(path))?;
    let manifest = Manifest { gradus_tree: VERSION, files, empty };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("larger than {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Every file below `folder`. Links and special files are refused.
pub(crate) fn walk(folder: &Path) -> Result<Folder<PathBuf>, CacheError> {
    let mut found = Folder::default();
    let mut todo = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = todo.pop() {
        let mut entries = fs::read_dir(&folder).doing("list", &folder)?.peekable();
        if entries.peek().is_none() && !prefix.is_empty() {
            found.empty.insert(prefix.trim_end_matches('/').to_owned());
        }
        for entry in entries {
            let path = entry.doing("list", &folder)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(CacheError::Name { path });
            };
            let relative = format!("{prefix}{name}");
            let kind = fs::symlink_metadata(&path).doing("look at", &path)?.file_type();
            if kind.is_dir() {
                todo.push((format!("{relative}/"), path));
            } else if kind.is_file() {
                found.files.insert(relative, path);
            } else if kind.is_symlink() {
                return Err(CacheError::Symlink { path });
            } else {
                return Err(CacheError::Special { path });
            }
            if found.files.len() + found.empty.len() + todo.len() > MOST_FILES {
                return Err(CacheError::TooMany { path: folder, most: MOST_FILES });
            }
        }
    }
    Ok(found)
}

/// As git has it: by its owner's bit.
pub(crate) fn is_executable(found: &Metadata) -> bool {
    found.mode() & 0o100 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        parse(json.as_bytes(), &Digest::of(json.as_bytes())).unwrap_err()
    }

    fn holding(path: &str, form: &str) -> String {
        let digest = Digest::of(b"");
        format!(
            r#"{{"gradus_tree":1,"files":{{"{path}":{{"digest":"{digest}","form":"{form}","bytes":0}}}}}}"#
        )
    }

    #[test]
    fn a_plain_manifest_is_read() {
        let json = holding("a/b.json", "blob");
        assert_eq!(parse(json.as_bytes(), &Digest::of(json.as_bytes())).unwrap().files.len(), 1);
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        for path in
            ["../a", "/etc/passwd", "a/../../b", "a//b", ".", "", "a\\u0000b", "a\\\\b", "a/"]
        {
            let why = refused(&holding(path, "blob"));
            assert!(why.contains("plain relative path"), "{path}: {why}");
        }
    }

    #[test]
    fn other_hostile_manifests_are_refused() {
        let one = |path: &str| {
            format!(
                r#""{path}":{{"digest":"{}","form":"blob","bytes":9223372036854775808}}"#,
                Digest::of(b"")
            )
        };
        let two =
            |a: &str, b: &str| format!(r#"{{"gradus_tree":1,"files":{{{},{}}}}}"#, one(a), one(b));
        assert!(refused(&holding("a", "tree")).contains("not a file"));
        assert!(refused(&two("a", "a/b")).contains("both a file and a folder"));
        assert!(refused(&two("a", "b")).contains("overflow"));
        assert!(refused(&two("a", "a")).contains("canonical"));
        assert!(refused(&holding("a", "blob").replace(":1,", ": 1,")).contains("canonical"));
        assert!(!refused(&"[".repeat(100_000)).is_empty());
        assert!(parse(b"{}", &Digest::of(b"")).unwrap_err().contains("another digest"));
    }
}
