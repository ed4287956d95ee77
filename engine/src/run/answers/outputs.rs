//! The final outputs of a pipeline's last run as plain files: `outputs/PIPELINE/STAGE.OUTPUT[.EXTENSION]`.
//!
//! They are for people, and copies: whoever edits one cannot reach into the store. Nothing reads them, so
//! the folder may be deleted at any time. A copy that is not what its digest says is put back, and that is said.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use gradus_cache::{Artifact, Cache, CacheError, Digest};
use serde::{Deserialize, Serialize};

use crate::{
    error::RunError,
    plan::Plan,
    run::history::{RunRecord, StageRecord, file_name},
};

/// What is larger is not copied unasked: `gradus export` does it.
const LARGEST: u64 = 256 << 20;
/// Whose copies these are, and which digest each has.
const CONTENTS: &str = ".contents.json";

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Contents {
    /// The pipeline's file.
    of: PathBuf,
    copies: BTreeMap<String, Digest>,
}

/// A final output, and where its copy lies.
#[derive(Debug, Clone)]
pub struct FinalOutput {
    pub stage: String,
    pub output: String,
    pub port_type: String,
    pub artifact: Artifact,
    /// `None` for one that is too large to be copied unasked, or is no longer in the cache.
    pub copy: Option<PathBuf>,
    /// Somebody had changed the copy, or taken it away, and it was put back.
    pub put_back: bool,
}

/// The final outputs of those stages that `record` has outputs of; copies the small ones.
pub fn final_outputs(
    cache: &Cache,
    plan: &Plan,
    record: &RunRecord,
) -> Result<Vec<FinalOutput>, RunError> {
    let folder = folder_of(cache, plan);
    let writable = fs::create_dir_all(&folder).is_ok();
    let before = contents(&folder).copies;
    let mut now = BTreeMap::new();
    let mut outputs = Vec::new();
    let records: HashMap<&str, &StageRecord> =
        record.stages.iter().map(|it| (it.stage.as_str(), it)).collect();
    for (index, port) in plan.final_outputs() {
        let stage = &plan.stages[index];
        let (output, port_type) =
            (&stage.kind.outputs[port].name, stage.output_types[port].clone());
        let name = format!("{}.{output}{}", file_name(&stage.id), extension(&port_type));
        let ran = records.get(stage.id.as_str());
        let Some(artifact) = ran.and_then(|it| it.outputs.get(output)) else {
            // Not part of this run: what an earlier one left stays.
            now.extend(before.get(&name).map(|digest| (name.clone(), *digest)));
            continue;
        };
        let mut copy = (writable && artifact.bytes <= LARGEST).then(|| folder.join(&name));
        let mut put_back = false;
        if let Some(path) = copy.clone() {
            let is_whole = cache.is_copy(&path, artifact).unwrap_or(false);
            if !is_whole {
                put_back = before.get(&name) == Some(&artifact.digest);
                match renew(cache, artifact, &path) {
                    // Swept since it was computed, or there is no room: it can be exported later.
                    Err(RunError::Cache(
                        CacheError::Missing { .. }
                        | CacheError::ReadOnly { .. }
                        | CacheError::Full { .. },
                    )) => copy = None,
                    renewed => renewed?,
                }
            }
            if copy.is_some() {
                now.insert(name, artifact.digest);
            }
        }
        outputs.push(FinalOutput {
            stage: stage.id.clone(),
            output: output.clone(),
            port_type,
            artifact: artifact.clone(),
            put_back: put_back && copy.is_some(),
            copy,
        });
    }
    for stale in before.keys().filter(|name| !now.contains_key(*name)) {
        if_there_is_room(remove(&folder.join(stale))).map_err(failed(&folder))?;
    }
    let now = Contents { of: plan.file.clone(), copies: now };
    if writable && now != contents(&folder) {
        let json = serde_json::to_vec_pretty(&now).map_err(io::Error::from);
        let written = json.and_then(|json| fs::write(folder.join(CONTENTS), json));
        if_there_is_room(written).map_err(failed(&folder))?;
    }
    Ok(outputs)
}

/// Puts a fresh copy in the place of an old one, by a rename.
fn renew(cache: &Cache, artifact: &Artifact, path: &Path) -> Result<(), RunError> {
    let attempt = cache.attempt()?;
    let fresh = attempt.path().join("copy");
    cache.materialise(artifact, &fresh)?;
    put(&fresh, path).map_err(failed(path))
}

/// Renames over what is there. A folder has to be removed first, and another run of the pipeline may
/// put its own there in between.
fn put(fresh: &Path, path: &Path) -> io::Result<()> {
    for _ in 0..10 {
        match fs::rename(fresh, path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::AlreadyExists
                        | io::ErrorKind::IsADirectory
                        | io::ErrorKind::NotADirectory
                ) => {}
            renamed => return renamed,
        }
        // Half of it may be gone already.
        match remove(path) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
            _ => {}
        }
    }
    fs::rename(fresh, path)
}

/// A run that is done does not fail for want of room for its copies.
fn if_there_is_room(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The folder called after the pipeline; where another pipeline of that name has it, one that is called after the
/// file as well.
fn folder_of(cache: &Cache, plan: &Plan) -> PathBuf {
    let outputs = cache.root().join("outputs");
    let usual = outputs.join(file_name(&plan.name));
    let other = contents(&usual).of;
    if other == plan.file || !other.is_file() {
        return usual;
    }
    let hash = blake3::hash(plan.key().as_bytes()).to_hex();
    outputs.join(file_name(&format!("{}-{}", plan.name, &hash[..8])))
}

/// A file that is not there, or was damaged, only costs copies.
fn contents(folder: &Path) -> Contents {
    let bytes = fs::read(folder.join(CONTENTS)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RunError {
    RunError::io(format!("the final outputs cannot be written to `{}`", path.display()))
}

/// What a person's programs know such a file by.
fn extension(port_type: &str) -> &'static str {
    match port_type {
        "report" => ".md",
        "table" => ".csv",
        "plot" => ".svg",
        "picture" => ".png",
        "page" => ".html",
        "claim" | "comparison" | "evaluation" | "true_reward" => ".json",
        "metrics" => ".jsonl",
        _ => "",
    }
}
