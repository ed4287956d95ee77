//! The state that a long stage keeps on the disk, as far as engine and workers both read it.
//!
//! In the stage's folder stands one folder per state, `step-…`, with whatever the kind needs to go on and a
//! [`Checkpoint`] that names those files. What a worker finds damaged it passes over for an older one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::catalog::Length;

const VERSION: u32 = 3;
const PREFIX: &str = "step-";
const FILE: &str = "checkpoint.json";

/// One state: how far it is, and the digests of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    #[serde(rename = "gradus_checkpoint")]
    version: u32,
    pub step: u64,
    /// Length parameter → the value with which the stage would have ended here.
    pub reached: BTreeMap<String, f64>,
    /// File beside this one → its BLAKE3 digest.
    pub files: BTreeMap<String, String>,
}

impl Checkpoint {
    pub fn new(step: u64, reached: BTreeMap<String, f64>, files: BTreeMap<String, String>) -> Self {
        Self { version: VERSION, step, reached, files }
    }

    /// The states below `folder`, the oldest first: how far each is, and where.
    pub fn all(folder: &Path) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((name.strip_prefix(PREFIX)?.parse().ok()?, entry.path()))
            })
            .collect();
        all.sort();
        all
    }

    /// Where the state after `step` steps stands in `folder`.
    pub fn place(folder: &Path, step: u64) -> PathBuf {
        folder.join(format!("{PREFIX}{step:012}"))
    }

    /// Reads what [`Checkpoint::write`] left in a state's folder. Another version is an error.
    pub fn read(state: &Path) -> io::Result<Self> {
        let read: Self = serde_json::from_slice(&fs::read(state.join(FILE))?)?;
        if read.version != VERSION {
            return Err(io::Error::other("it is of another version"));
        }
        Ok(read)
    }

    /// Writes it into a state's folder; returns the file, which is yet to be synced.
    pub fn write(&self, state: &Path) -> io::Result<PathBuf> {
        let path = state.join(FILE);
        fs::write(&path, serde_json::to_vec(self)?)?;
        Ok(path)
    }

    /// Whether a stage with `params` passes this state on its way.
    pub fn leads_to(&self, params: &serde_json::Value, length: &Length) -> bool {
        let wanted = length.params.iter().find_map(|name| Some((name, params[name].as_f64()?)));
        wanted.is_some_and(|(name, wanted)| {
            self.reached.get(name).is_some_and(|reached| *reached <= wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_leads_to_what_is_at_least_as_long_by_the_first_parameter_given() {
        let length =
            Length { params: ["steps", "epochs"].map(str::to_owned).into(), ..Length::default() };
        let reached = [("steps".to_owned(), 10.0), ("epochs".to_owned(), 2.5)].into();
        let state = Checkpoint::new(10, reached, BTreeMap::new());
        let leads = |steps: serde_json::Value, epochs: f64| {
            state.leads_to(&json!({ "steps": steps, "epochs": epochs }), &length)
        };
        assert!(leads(json!(10), 1.0) && leads(json!(11), 1.0) && !leads(json!(9), 9.0));
        assert!(leads(json!(null), 2.5) && !leads(json!(null), 2.4));
        assert!(!state.leads_to(&json!({}), &length));
    }
}
