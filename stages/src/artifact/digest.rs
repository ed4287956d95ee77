//! What an artifact is, told by its bytes: two that have one digest are the same, wherever they lie.

use std::path::Path;

use gradus_protocol::Source;

use crate::error::StageError;

/// BLAKE3 of a file's bytes; of a folder, over the names and digests of its files.
pub(crate) fn digest(source: &Source) -> Result<String, StageError> {
    let hash = match source {
        Source::File(path) => of_file(path)?,
        Source::Tree(files) => {
            let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 folder of an artifact");
            for (name, path) in files {
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
                hasher.update(of_file(path)?.as_bytes());
            }
            hasher.finalize()
        }
    };
    Ok(hash.to_hex().to_string())
}

fn of_file(path: &Path) -> Result<blake3::Hash, StageError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path).map_err(StageError::file(path))?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_and_names_count_and_places_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &str| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let (one, same, other) = (file("1", "a"), file("2", "a"), file("3", "b"));
        let of = |source| digest(&source).unwrap();
        let tree = |name: &str, path: &Path| Source::Tree([(name.to_owned(), path.into())].into());
        assert_eq!(of(Source::File(one.clone())), of(Source::File(same.clone())));
        assert_ne!(of(Source::File(one.clone())), of(Source::File(other.clone())));
        assert_eq!(of(tree("x", &one)), of(tree("x", &same)));
        assert_ne!(of(tree("x", &one)), of(tree("y", &one)));
        assert_ne!(of(tree("x", &one)), of(tree("x", &other)));
        assert!(digest(&Source::File(folder.path().join("gone"))).is_err());
    }
}
