//! Results that were computed from bytes that have been found damaged, perhaps when they were so already.

use std::collections::HashSet;

use gradus_cache::{Cache, CacheError, Digest, Fingerprint, Form, Verified};
use serde_json::Value;

use crate::run::made::Made;

/// Checks all that `cache` holds, and sets aside what is damaged and what read it; returns the latter as well.
pub fn verify(cache: &Cache) -> Result<(Verified, Vec<Fingerprint>), CacheError> {
    let verified = cache.verify_all()?;
    if verified.damaged_blobs.is_empty() {
        return Ok((verified, Vec::new()));
    }
    let actions = cache.actions()?;
    let mut bad: HashSet<Digest> = verified.damaged_blobs.iter().copied().collect();
    let folders = actions.iter().flat_map(|action| action.outputs.values());
    let holding: Vec<Digest> = folders
        .filter(|artifact| artifact.form == Form::Tree)
        .filter(|artifact| {
            let folder = cache.tree(&artifact.digest).unwrap_or_default();
            folder.files.values().any(|file| bad.contains(&file.digest))
        })
        .map(|artifact| artifact.digest)
        .collect();
    bad.extend(holding);
    let words: HashSet<String> = bad.iter().map(Digest::to_string).collect();
    let mut suspects = Vec::new();
    for action in &actions {
        let table = Made::of(action).map(|made| made.facts.table.0).unwrap_or_default();
        if names(&table["inputs"], &words) {
            cache.set_aside(&action.fingerprint)?;
            suspects.push(action.fingerprint);
        }
    }
    Ok((verified, suspects))
}

/// Whether one of the digests stands anywhere in it. Behind the digest of a file may stand that it can be run.
fn names(value: &Value, digests: &HashSet<String>) -> bool {
    match value {
        Value::String(text) => text.split(' ').next().is_some_and(|it| digests.contains(it)),
        Value::Array(items) => items.iter().any(|item| names(item, digests)),
        Value::Object(map) => map.values().any(|item| names(item, digests)),
        _ => false,
    }
}
