//! The digest of a file, by all cores where it is large.
//!
//! Files are read and never mapped: one of the user's may be cut short meanwhile, and a process is killed for
//! touching a page that is gone. Pieces are small enough to be hashed while they are in the core's cache.

use std::{cell::RefCell, fs::File, io, os::unix::fs::FileExt};

use blake3::{
    Hasher,
    hazmat::{
        ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root,
        merge_subtrees_root,
    },
};

use crate::Digest;

/// A power of two, as every left side of the tree is.
const PIECE: u64 = 512 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Hashes the first `bytes` of `file`, which must have as many.
pub(crate) fn hash_file(file: &File, bytes: u64) -> io::Result<Digest> {
    if bytes <= PIECE {
        return piece(file, 0, bytes, |content| blake3::hash(content).into());
    }
    let (left, right) = halves(file, 0, bytes)?;
    Ok(merge_subtrees_root(&left, &right, Mode::Hash).into())
}

/// What BLAKE3's tree has for `bytes` from `offset` on.
fn subtree(file: &File, offset: u64, bytes: u64) -> io::Result<ChainingValue> {
    if bytes <= PIECE {
        return piece(file, offset, bytes, |content| {
            Hasher::new().set_input_offset(offset).update(content).finalize_non_root()
        });
    }
    let (left, right) = halves(file, offset, bytes)?;
    Ok(merge_subtrees_non_root(&left, &right, Mode::Hash))
}

fn halves(file: &File, offset: u64, bytes: u64) -> io::Result<(ChainingValue, ChainingValue)> {
    let left = left_subtree_len(bytes);
    let (left, right) =
        rayon::join(|| subtree(file, offset, left), || subtree(file, offset + left, bytes - left));
    Ok((left?, right?))
}

fn piece<T>(file: &File, offset: u64, bytes: u64, work: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        file.read_exact_at(&mut buffer[..bytes], offset)?;
        Ok(work(&buffer[..bytes]))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes_whatever_their_number() {
        let all: Vec<u8> = (0..5 * PIECE).map(|i| (i % 251) as u8).collect();
        let edges = [0, 1, 1024, 1025, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7];
        for bytes in edges {
            let content = &all[..usize::try_from(bytes).unwrap()];
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            assert_eq!(hash_file(&file, bytes).unwrap(), Digest::of(content), "{bytes}");
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * PIECE).unwrap();
        let error = hash_file(&file, 3 * PIECE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
