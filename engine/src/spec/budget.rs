//! What the values of one pipeline may come to, all together: a short text can say that thousands of stages
//! each take a long one.

use std::cell::Cell;

use super::node::Node;

const MOST_BYTES: usize = 256 << 20;

/// What is left.
#[derive(Debug)]
pub struct Budget(Cell<usize>);

/// An expense that is not covered.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// The first one, which is to be said.
    First,
    Again,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MOST_BYTES))
    }
}

impl Budget {
    pub const LIMIT: usize = MOST_BYTES;

    /// Takes what `values` copies of values with `bytes` of text need.
    pub fn spend(&self, values: usize, bytes: usize) -> Result<(), Over> {
        let size = values.saturating_mul(size_of::<Node>()).saturating_add(bytes);
        let left = self.0.get();
        self.0.set(left.saturating_sub(size));
        match left.checked_sub(size) {
            Some(_) => Ok(()),
            None if left > 0 => Err(Over::First),
            None => Err(Over::Again),
        }
    }
}
