//! A stage as it is written.

use super::{
    node::{Entry, Node},
    place::At,
};

/// One entry of `stages`.
#[derive(Debug)]
pub struct StageSpec {
    /// With the names of the includes that it came by: `base/sft`.
    pub name: String,
    /// These names alone: `base/`.
    pub prefix: String,
    /// What its template, if any, calls `${args.NAME}`.
    pub args: Vec<Entry>,
    /// Where the name stands.
    pub at: At,
    pub kind: String,
    pub kind_at: At,
    pub with: Node,
    pub inputs: Vec<Entry>,
    pub matrix: Vec<Entry>,
    /// Whether it is there at all.
    pub when: Option<Node>,
    /// Of an `exec` stage: what it leaves behind.
    pub outputs: Vec<ExecSpec>,
    /// Of an `exec` stage: variables for the program.
    pub env: Option<Node>,
    /// Of an `exec` stage: names of variables whose values nobody else sees.
    pub secret: Option<Node>,
    /// Of an `exec` stage: programs whose bytes count.
    pub tools: Option<Node>,
    /// Of an `exec` stage: where it leaves its numbers.
    pub metrics: Option<Node>,
    /// Of an `exec` stage: the input whose rows it treats one by one, and the output that has a line for each.
    pub rows: Option<Node>,
    /// How it is carried out: keys that change none of its bytes.
    pub conduct: Vec<Entry>,
}

/// An output that an `exec` stage declares.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    pub name: String,
    pub path: String,
    /// The port type; `file` or `folder` unless said otherwise.
    pub port_type: String,
    pub at: At,
}
