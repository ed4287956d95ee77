//! Token ids in memory or in a file: pieces of one table, which stays where it is.

use std::{fmt, fs::File, ops::Deref, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;

use crate::error::StageError;

/// A run of ids. Cloning and slicing copy none of them.
#[derive(Clone)]
pub(crate) struct Ids {
    table: Arc<Table>,
    range: Range<usize>,
}

enum Table {
    Owned(Vec<u32>),
    /// A file, and where in it the ids lie.
    Mapped(Mmap, Range<usize>),
}

impl Ids {
    /// The `bytes` of a file as little-endian numbers of 32 bits.
    pub(crate) fn mapped(path: &Path, bytes: Range<usize>) -> Result<Self, StageError> {
        let file = File::open(path).map_err(StageError::file(path))?;
        // SAFETY: objects of the cache are never written in place.
        let map = unsafe { Mmap::map(&file) }.map_err(StageError::file(path))?;
        let sound = cfg!(target_endian = "little")
            && map
                .get(bytes.clone())
                .is_some_and(|bytes| bytemuck::try_cast_slice::<_, u32>(bytes).is_ok());
        if !sound {
            let path = path.display();
            return Err(StageError::refused(format!(
                "`{path}` has no table of token ids where it should be"
            )));
        }
        let range = 0..bytes.len() / size_of::<u32>();
        Ok(Self { table: Arc::new(Table::Mapped(map, bytes)), range })
    }

    /// A part of them, counted from their first.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.range.len(), "a part lies within");
        let start = self.range.start;
        Self { table: self.table.clone(), range: start + range.start..start + range.end }
    }
}

impl Deref for Ids {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        let all: &[u32] = match &*self.table {
            Table::Owned(ids) => ids,
            Table::Mapped(map, bytes) => bytemuck::cast_slice(&map[bytes.clone()]),
        };
        &all[self.range.clone()]
    }
}

impl From<Vec<u32>> for Ids {
    fn from(ids: Vec<u32>) -> Self {
        let range = 0..ids.len();
        Self { table: Arc::new(Table::Owned(ids)), range }
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_file_and_of_memory_are_the_same_ids() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ids");
        let bytes: Vec<u8> = [9_u32, 1, 2, 3, 4].iter().flat_map(|id| id.to_le_bytes()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mapped = Ids::mapped(&path, 4..20).unwrap();
        assert_eq!(mapped, Ids::from(vec![1, 2, 3, 4]));
        assert_eq!(mapped.part(1..4).part(1..2), Ids::from(vec![3]));
        for odd in [2..10, 4..18, 4..24] {
            assert!(Ids::mapped(&path, odd).is_err());
        }
    }
}
