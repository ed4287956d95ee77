//! One file of a pipeline, and what names mean in it.

use std::path::PathBuf;

use super::{
    node::{Data, Entry, Node},
    place::At,
};

/// What names mean in one file.
#[derive(Debug, Clone)]
pub struct Module {
    /// What stands before the names of its stages: nothing for the pipeline itself, else `base/`.
    pub prefix: String,
    /// Its parameters, with those that it was given laid over its own.
    pub params: Node,
    /// Environment variables that its values may use.
    pub env: Vec<String>,
    /// Where it lies; `None` for the pipeline itself.
    pub file: Option<PathBuf>,
    /// Whether it could be read.
    pub sound: bool,
    /// The parameters that it was given, as they are written.
    pub given: Vec<Entry>,
    /// What random choices derive from, where it is said: in the pipeline, or where this file is included.
    pub seed: Option<Node>,
    /// The axes whose every point has all its stages once.
    pub matrix: Vec<Entry>,
    /// How often all its stages stand one behind the other, if it goes round.
    pub rounds: Option<Node>,
    /// What stands for `previous/…` in the first round.
    pub first: Vec<Entry>,
    /// Where it is included.
    pub at: At,
}

/// What a file is given by whoever includes it.
#[derive(Default)]
pub(super) struct Given {
    pub(super) params: Vec<Entry>,
    pub(super) seed: Option<Node>,
    pub(super) matrix: Vec<Entry>,
    pub(super) rounds: Option<Node>,
    pub(super) first: Vec<Entry>,
    pub(super) at: At,
}

impl Default for Module {
    fn default() -> Self {
        let params = Node { data: Data::Map(Vec::new()), at: At::default() };
        Self {
            prefix: String::new(),
            params,
            env: Vec::new(),
            file: None,
            sound: true,
            given: Vec::new(),
            seed: None,
            matrix: Vec::new(),
            rounds: None,
            first: Vec::new(),
            at: At::default(),
        }
    }
}
