//! What runs still need, told to the cache's sweep; and the folders of old runs.
//!
//! Needed is what a run uses that is pinned, under way, or young enough.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use gradus_cache::{Cache, Count, Fingerprint, Limits, Swept};
use serde_json::Value;

use crate::{error::RunError, run::history::runs};

/// In the folder of a run that is to stay, with all that it uses.
const PIN: &str = "pinned";

/// Deletes what `limits` says, or only counts it; with `old_runs` also what old runs left for people.
pub fn sweep(
    cache: &Cache,
    limits: &Limits,
    old_runs: bool,
    delete: bool,
) -> Result<Swept, RunError> {
    let live = cache.live_runs()?;
    let mut roots = BTreeSet::new();
    let mut old = Vec::new();
    for name in names(cache)? {
        let folder = runs(cache).join(&name);
        let written = fs::metadata(folder.join("events.jsonl")).and_then(|found| found.modified());
        let age = written
            .map_or(Duration::ZERO, |it| SystemTime::now().duration_since(it).unwrap_or_default());
        let young = age <= limits.unused_for.unwrap_or(limits.grace).max(limits.grace);
        if live.contains(&name) || folder.join(PIN).exists() || young {
            roots.extend(used(&folder)?);
        } else if old_runs && limits.unused_for.is_some() {
            old.push(folder);
        }
    }
    let mut swept = cache.sweep(limits, &roots, delete)?;
    swept.runs = remove(&old, delete)?;
    Ok(swept)
}

/// Keeps a run and all that it uses, or no longer. `false` if there is no such run.
pub fn pin(cache: &Cache, run: &str, pinned: bool) -> Result<bool, RunError> {
    if !names(cache)?.iter().any(|name| name == run) {
        return Ok(false);
    }
    let pin = runs(cache).join(run).join(PIN);
    let done = if pinned { fs::write(&pin, "") } else { fs::remove_file(&pin) };
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::io(format!("`{}` cannot be changed", pin.display()))(error))
        }
        _ => Ok(true),
    }
}

/// Whether a run is pinned.
pub fn is_pinned(cache: &Cache, run: &str) -> bool {
    runs(cache).join(run).join(PIN).exists()
}

fn names(cache: &Cache) -> Result<Vec<String>, RunError> {
    let folder = runs(cache);
    let failed = || RunError::io(format!("`{}` cannot be read", folder.display()));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(failed())?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed()(error)),
    };
    Ok(entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The fingerprints of a run's stages. Its events know them sooner than its record.
fn used(folder: &Path) -> Result<BTreeSet<Fingerprint>, RunError> {
    let path = folder.join("events.jsonl");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        // What it uses would look unneeded.
        Err(error) => {
            return Err(RunError::io(format!("`{}` cannot be read", path.display()))(error));
        }
    };
    let lines = text.split(|&byte| byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(events.filter_map(|event| event["fingerprint"].as_str()?.parse().ok()).collect())
}

fn remove(folders: &[std::path::PathBuf], delete: bool) -> Result<Count, RunError> {
    let mut count = Count::default();
    for folder in folders {
        let bytes = gradus_cache::bytes_below(folder);
        if delete && let Err(error) = fs::remove_dir_all(folder) {
            if error.kind() == std::io::ErrorKind::NotFound {
                continue;
            }
            let what = format!("`{}` cannot be deleted", folder.display());
            return Err(RunError::io(what)(error));
        }
        count.add(bytes);
    }
    Ok(count)
}
