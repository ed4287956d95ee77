//! What other libraries make of the same rows, for the tests. The folder is `$GRADUS_ORACLES`, or
//! `../shared/oracles` beside the workspace; without the latter these tests say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) options: Value,
    pub(crate) rows: Vec<Value>,
    pub(crate) expected: Vec<Value>,
    pub(crate) collated: Value,
}

impl Case {
    /// TRL's own limit where the case sets none; `null` stands for no limit.
    pub(crate) fn max_length(&self) -> usize {
        match self.options.get("max_length") {
            None => 1024,
            Some(Value::Null) => usize::MAX,
            Some(most) => usize::try_from(most.as_u64().unwrap()).unwrap(),
        }
    }
}

/// The folder of fixtures, if there is one. One that was asked for must be there; a relative path
/// starts at the workspace.
pub(crate) fn folder() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Some(asked) = std::env::var_os("GRADUS_ORACLES") {
        let folder = workspace.join(asked);
        assert!(folder.is_dir(), "GRADUS_ORACLES: there is no folder `{}`", folder.display());
        return Some(folder);
    }
    let folder = workspace.join("../shared/oracles");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: there is no folder `{}`; set GRADUS_ORACLES", folder.display());
    None
}

pub(crate) fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn text(row: &Value, column: &str) -> Option<String> {
    row[column].as_str().map(str::to_owned)
}

/// The folder, and the cases of one trainer but those that have chats.
pub(crate) fn prepared(trainer: &str) -> Option<(PathBuf, Vec<Case>)> {
    let folder = folder()?;
    let all = json(&folder, "data/prepared.json");
    let mut cases = Vec::new();
    for case in all["cases"].as_array().unwrap().iter().filter(|case| case["trainer"] == trainer) {
        let name = case["name"].as_str().unwrap().to_owned();
        let file = format!("data/rows/{}.jsonl", case["rows"].as_str().unwrap());
        let rows = fs::read_to_string(folder.join(file)).unwrap();
        let rows: Vec<Value> =
            rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let has_chats = |row: &Value| row.as_object().unwrap().values().any(Value::is_array);
        if rows.iter().any(has_chats) {
            println!("skipped: data/prepared: {name}: the rows are chats");
            continue;
        }
        cases.push(Case {
            name,
            options: case["options"].clone(),
            rows,
            expected: case["expected"].as_array().unwrap().clone(),
            collated: case["collated"].clone(),
        });
    }
    assert!(!cases.is_empty(), "no case of {trainer} is ours: nothing would be compared");
    Some((folder, cases))
}
