//! The record that an action keeps of how it was made. For people alone: nothing in it is hashed.
//!
//! Fields that came later have defaults, so that the actions of an older gradus stay readable.

use std::{path::Path, process::Command};

use gradus_cache::Action;
use serde::{Deserialize, Serialize};

use crate::{event::Metrics, plan::Facts};

/// How an action came to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    pub kind: String,
    #[serde(flatten)]
    pub facts: Facts,
    pub metrics: Metrics,
    pub seconds: f64,
    /// Seconds since 1970.
    pub started: u64,
    pub run: String,
    pub pipeline: String,
    pub stage: String,
    pub device: String,
    /// The version of gradus.
    pub gradus: String,
    /// The version of libtorch, for stages that ran in a worker.
    #[serde(default)]
    pub libtorch: Option<String>,
    #[serde(default)]
    pub git: Option<Commit>,
}

/// The state of the work tree that the pipeline lay in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub commit: String,
    /// Whether tracked files differed from it.
    pub dirty: bool,
}

impl Made {
    /// Reads an action's record; `None` for one that something else wrote.
    pub fn of(action: &Action) -> Option<Self> {
        action.record.read()
    }
}

impl Commit {
    /// The commit of the work tree around `folder`. `None` without git, a tree, or a commit.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            // Takes no lock and starts no program that the tree's settings name.
            .args(["--no-optional-locks", "-c", "core.fsmonitor=false", "status"])
            .args(["--porcelain=v2", "--branch", "--untracked-files=no"])
            .args(["--ignore-submodules=all"])
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let commit = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
        let known = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let dirty = text.lines().any(|line| !line.starts_with('#'));
        known.then(|| Self { commit: commit.to_owned(), dirty })
    }
}

/// A time as people here write it.
pub fn local_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|it| jiff::Timestamp::new(it, 0).ok());
    let local = time.map(|it| it.to_zoned(jiff::tz::TimeZone::system()));
    local.map_or_else(String::new, |it| it.strftime("%Y-%m-%d %H:%M").to_string())
}
