//! Folders: a manifest of relative path → blob, kept as a blob itself. Its JSON is canonical,
//! so equal folders have equal digests. Empty folders and file modes are not kept.
//!
//! A manifest may come from elsewhere: nothing in it is believed before [`parse`] has seen it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::IoContext;
use crate::{Artifact, Cache, CacheError, Digest, Form};

pub(crate) const MOST_FILES: usize = 200_000;
/// Larger than any honest manifest.
pub const MOST_BYTES: u64 = 64 << 20;
const MOST_PATH: usize = 4096;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    gradus_tree: u32,
    files: BTreeMap<String, Artifact>,
}

impl Cache {
    /// Reads what a folder holds: its files by relative path.
    pub fn tree(&self, digest: &Digest) -> Result<BTreeMap<String, Artifact>, CacheError> {
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

pub(crate) fn parse(bytes: &[u8], digest: &Digest) -> Result<BTreeMap<String, Artifact>, String> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("larger than {MOST_BYTES} bytes"));
    }
    if Digest::of(bytes) != *digest {
        return Err("its content has another digest".to_owned());
    }
    let Manifest { gradus_tree, files } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if gradus_tree != VERSION {
        return Err(format!("version {gradus_tree} is unknown"));
    }
    if files.len() > MOST_FILES {
        return Err(format!("more than {MOST_FILES} files"));
    }
    for (path, artifact) in &files {
        plain(path)?;
        if artifact.form != Form::Blob {
            return Err(format!("`{path}` is not a file"));
        }
        if let Some(above) = above(path).find(|above| files.contains_key(*above)) {
            return Err(format!("`{above}` is both a file and a folder"));
        }
    }
    total(&files).ok_or("its sizes overflow")?;
    // Also catches repeated keys, of which serde_json keeps the last.
    if to_bytes(&files).as_deref() != Ok(bytes) {
        return Err("not in canonical form".to_owned());
    }
    Ok(files)
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
        Err(format!("`{}` is not a plain relative path", path.escape_debug()))
    } else {
        Ok(())
    }
}

pub(crate) fn total(files: &BTreeMap<String, Artifact>) -> Option<u64> {
    files.values().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes))
}

/// The canonical bytes of a manifest. Fails only for what [`parse`] would refuse.
pub(crate) fn to_bytes(files: &BTreeMap<String, Artifact>) -> Result<Vec<u8>, String> {
    files.keys().try_for_each(|path| plain(path))?;
    let manifest = Manifest { gradus_tree: VERSION, files: files.clone() };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("larger than {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Every file below `folder` by its relative path. Links and special files are refused.
pub(crate) fn walk(folder: &Path) -> Result<BTreeMap<String, PathBuf>, CacheError> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = todo.pop() {
        for entry in fs::read_dir(&folder).doing("list", &folder)? {
            let path = entry.doing("list", &folder)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(CacheError::Name { path });
            };
            let relative = format!("{prefix}{name}");
            let kind = fs::symlink_metadata(&path).doing("look at", &path)?.file_type();
            if kind.is_dir() {
                todo.push((format!("{relative}/"), path));
            } else if kind.is_file() {
                found.insert(relative, path);
            } else if kind.is_symlink() {
                return Err(CacheError::Symlink { path });
            } else {
                return Err(CacheError::Special { path });
            }
            if found.len() + todo.len() > MOST_FILES {
                return Err(CacheError::TooMany { path: folder, most: MOST_FILES });
            }
        }
    }
    Ok(found)
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
        assert_eq!(parse(json.as_bytes(), &Digest::of(json.as_bytes())).unwrap().len(), 1);
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
