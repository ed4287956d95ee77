//! What other libraries make of the same rows, for the tests. The folder is `$GRADUS_ORACLES`, or
//! `../shared/oracles` beside the workspace; without it these tests say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::artifact::tokenizer::Codec;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) options: Value,
    pub(crate) rows: Vec<Value>,
    pub(crate) expected: Vec<Value>,
    pub(crate) collated: Value,
}

impl Case {
    /// TRL's own limit where the case sets none.
    pub(crate) fn max_length(&self) -> usize {
        self.options["max_length"].as_u64().map_or(1024, |most| usize::try_from(most).unwrap())
    }
}

pub(crate) fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracles");
    let folder = std::env::var_os("GRADUS_ORACLES").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no folder `{}`; set GRADUS_ORACLES", folder.display());
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

/// The tokenizer and the cases of one trainer, but those that have chats.
pub(crate) fn prepared(trainer: &str) -> Option<(Codec, Vec<Case>)> {
    let folder = folder()?;
    let codec = Codec::open(&folder.join("tokenizer")).unwrap();
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
            eprintln!("skipped, has chats: {name}");
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
    Some((codec, cases))
}
