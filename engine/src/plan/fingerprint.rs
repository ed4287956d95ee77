//! What determines a stage's outputs, and so enters its fingerprint.
//!
//! | row | why |
//! | --- | --- |
//! | `kind`, `revision` | the code; a kind raises its revision when the same inputs would give other outputs |
//! | `params` | all of them, defaults filled in, so that writing a default out changes nothing |
//! | `seed` | every random choice derives from the fingerprint |
//! | `files` | the content of files that parameters name; their paths are not in it |
//! | `inputs` | per port the digests, in order; for a fan-in also the stages' names, which the outputs show |
//! | `device` | the device class with its threads, for kinds whose bytes depend on it |
//! | `schema` | raised when this table changes |
//!
//! Left out: names of stages and pipelines, paths, comments, the order of keys, slots, log settings, the
//! version of gradus, and the time.

use std::collections::BTreeMap;

use gradus_cache::{Artifact, Fingerprint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Stage;

const SCHEMA: u32 = 1;

/// What is known about a stage once its inputs are there.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Port → label and artifact, in order.
    pub inputs: BTreeMap<String, Vec<(String, Artifact)>>,
    /// Pointer into the parameters → the file's digest.
    pub files: BTreeMap<String, Artifact>,
    pub device: String,
}

/// The rows that were hashed, kept with the action so that a change can be explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table(pub Value);

impl Table {
    pub fn of(stage: &Stage, known: &Known) -> Self {
        let mut params = stage.params.clone();
        let mut files = BTreeMap::new();
        for (pointer, artifact) in &known.files {
            if let Some(value) = params.pointer_mut(pointer) {
                *value = json!("(file)");
            }
            files.insert(pointer, artifact.digest.to_string());
        }
        let named = |port: &str| stage.inputs.iter().any(|wire| wire.port == port && wire.fan_in);
        let inputs: BTreeMap<_, Vec<Value>> = known
            .inputs
            .iter()
            .map(|(port, items)| {
                let rows = items.iter().map(|(label, artifact)| {
                    let digest = artifact.digest.to_string();
                    if named(port) { json!([label, digest]) } else { json!(digest) }
                });
                (port, rows.collect())
            })
            .collect();
        Self(sorted(&json!({
            "schema": SCHEMA,
            "kind": stage.kind.kind,
            "revision": stage.kind.revision,
            "params": params,
            "seed": stage.seed,
            "files": files,
            "inputs": inputs,
            "device": if stage.kind.uses_device { known.device.as_str() } else { "any" },
        })))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.to_string().as_bytes())
    }

    /// What differs from `before`, in words: `beta 0.1 → 0.5`, `input data`.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut words = Vec::new();
        for (row, now) in self.0.as_object().into_iter().flatten() {
            let then = &before.0[row];
            if now == then {
                continue;
            }
            let keys = |value: &Value| -> Vec<String> {
                value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
            };
            match row.as_str() {
                "params" => {
                    let mut names = keys(now);
                    names.extend(keys(then));
                    names.sort();
                    names.dedup();
                    words.extend(
                        names
                            .iter()
                            .filter(|name| now[*name] != then[*name])
                            .map(|name| format!("{name} {} → {}", then[name], now[name])),
                    );
                }
                "inputs" => words.extend(
                    keys(now).iter().filter(|n| now[*n] != then[*n]).map(|n| format!("input {n}")),
                ),
                "files" => words.extend(
                    keys(now)
                        .iter()
                        .filter(|name| now[*name] != then[*name])
                        .map(|name| format!("file at {}", name.trim_start_matches('/'))),
                ),
                _ => words.push(format!("{row} {then} → {now}")),
            }
        }
        words
    }
}

/// The seed of every random choice in a stage.
pub fn seed_of(fingerprint: &Fingerprint) -> u64 {
    let digest =
        blake3::derive_key("gradus 2026 seed of a stage", fingerprint.to_string().as_bytes());
    let mut seed = [0; 8];
    seed.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(seed)
}

/// The same value with all maps in the order of their keys.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
