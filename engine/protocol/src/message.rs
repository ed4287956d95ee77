//! The messages themselves.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::Catalog;

/// The version of these messages.
pub const VERSION: u32 = 6;

/// The kind of a job that looks at files of a person's own, before anything runs, for a stage of the kind `kind` with
/// `params`, both of them parameters. Of inputs there are only those that are such files. What is known of them then comes as
/// numbers of the whole, `PORT.FACT`.
pub const LOOK: &str = "look";

/// The kind of a job that checks what a program made: its input `artifact` is to be of the port type `type`, a parameter.
/// What the worker leaves at the output `artifact` stands in its place; it may leave nothing.
pub const TAKE: &str = "take";

/// What the engine asks of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Carry out one stage; the worker answers with `Done` or `Failed`.
    Run(Box<Job>),
    /// Give up the stage under way; it ends in `Failed` with [`Cause::Cancelled`].
    Cancel,
}

/// One stage, ready to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub kind: String,
    /// Parameters with all defaults filled in.
    pub params: Value,
    pub inputs: BTreeMap<String, Vec<Input>>,
    /// Where each output is to be written: a path that does not exist yet.
    pub outputs: BTreeMap<String, PathBuf>,
    /// Derived from the stage's `seed` and its kind, and from nothing else: the only source of randomness.
    pub seed: u64,
    /// Threads inside one operation; part of the device class, as sums depend on it.
    pub threads: u32,
    /// Where a stage that takes long may keep its state, and find what an interrupted run of it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<Checkpoints>,
    /// A folder that all stages share, where what they compute row by row is kept for others; it need not exist yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<PathBuf>,
}

/// A folder of one stage's own, and how often the stage is to keep its state there. Changes no output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// Need not exist yet.
    pub folder: PathBuf,
    /// After so many steps, if given.
    pub every_steps: Option<u64>,
    /// After so many seconds.
    pub every_seconds: f64,
    /// The state at the end is to stay as well: longer stages that differ in nothing else go on from it. Then
    /// the folder is theirs, too, and what lies beyond this stage's end is to be left alone.
    pub keep_last: bool,
    /// What lies there up to this stage's end is to be removed and not used.
    pub anew: bool,
}

/// One artifact at an input port; a fan-in brings several.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The stage it comes from as a person knows it, e.g. `dpo[beta=0.1]`.
    pub label: String,
    pub source: Source,
}

/// Where an artifact's bytes lie. They are read in place and must not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    File(PathBuf),
    /// Relative name → where that file's bytes lie.
    Tree(BTreeMap<String, PathBuf>),
}

/// What a worker tells the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The first frame of every worker.
    Hello {
        protocol: u32,
        catalog: Catalog,
        /// The device the worker opened, e.g. `cpu` or `cuda:0 (NVIDIA H200)`.
        device: String,
        /// What goes into fingerprints for that device, e.g. `cpu` or `cuda-sm90`.
        device_class: String,
    },
    /// Sent every few seconds by a thread of its own: the process lives.
    Alive,
    Progress {
        done: u64,
        total: u64,
        /// What is counted, e.g. `steps`.
        unit: String,
        /// The newest figure worth a glance, e.g. `loss 1.234`.
        note: String,
    },
    /// A number of this stage: of a step, or of the whole. Not a finite number: `null`.
    Metric {
        name: String,
        step: Option<u64>,
        value: Option<f64>,
    },
    /// A line for the person who waits, e.g. that the stage goes on from a checkpoint.
    Note {
        words: String,
    },
    /// Asked to stop, the worker writes its state down, to go on from there: it is waited for.
    Saving,
    Done,
    Failed {
        cause: Cause,
        message: String,
    },
}

/// Why a stage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The stage refused its input or its numbers.
    Stage,
    Cancelled,
    /// A panic or a C++ exception: a defect, or memory that ran out.
    Crash,
}
