//! Which stage made what: one small file per [`Fingerprint`], JSON on the first line and on the
//! second the BLAKE3 of the first. A file that fails its own check is set aside and is a miss.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::shard;
use crate::error::IoContext;
use crate::{Artifact, Cache, CacheError, Fingerprint, objects};

const VERSION: u32 = 1;
/// Larger than any honest action; a damaged length must not eat the memory.
pub const MOST_BYTES: u64 = 64 << 20;

/// What a stage made, as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub fingerprint: Fingerprint,
    pub outputs: BTreeMap<String, Artifact>,
    /// The engine's own notes: kind, metrics, timing, provenance.
    pub record: Record,
}

/// JSON that is read only when somebody wants it: most of it nobody does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Box<RawValue>);

impl Record {
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, CacheError> {
        serde_json::value::to_raw_value(value).map(Self).map_err(CacheError::Record)
    }

    /// The record as a `T`; `None` where it is none.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.get()).ok()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    gradus_action: u32,
    fingerprint: Fingerprint,
    outputs: BTreeMap<String, Artifact>,
    record: Record,
}

impl Action {
    /// Reads the bytes of an action's file. `None` unless they are sound and about `wanted`.
    pub fn read(bytes: &[u8], wanted: &Fingerprint) -> Option<Self> {
        parse(bytes, wanted)
    }
}

impl Cache {
    /// Returns what was committed under `fingerprint`, whether or not its bytes are still there.
    pub fn action(&self, fingerprint: &Fingerprint) -> Result<Option<Action>, CacheError> {
        self.read_action(fingerprint)
    }

    /// As [`Cache::action`], with the bytes of its file: what another cache would keep of it.
    pub fn written(
        &self,
        fingerprint: &Fingerprint,
    ) -> Result<Option<(Action, Vec<u8>)>, CacheError> {
        let Some((bytes, _)) = bytes(&self.action_path(fingerprint))? else { return Ok(None) };
        Ok(parse(&bytes, fingerprint).map(|action| (action, bytes)))
    }

    /// Reads every action there is, in the order of their fingerprints.
    pub fn actions(&self) -> Result<Vec<Action>, CacheError> {
        let folder = self.root().join("actions");
        let mut actions = Vec::new();
        for entry in fs::read_dir(&folder).doing("list", &folder)? {
            let shard = entry.doing("list", &folder)?.path();
            // Where a file stands that is no folder, nobody has put an action.
            for file in fs::read_dir(&shard).into_iter().flatten().flatten() {
                let name = |path: &std::path::Path| path.file_name()?.to_str().map(str::to_owned);
                let name = name(&shard).zip(name(&file.path()));
                let fingerprint = name.and_then(|(ab, rest)| format!("{ab}{rest}").parse().ok());
                if let Some(fingerprint) = fingerprint {
                    actions.extend(self.read_action(&fingerprint)?);
                }
            }
        }
        actions.sort_by_key(|action| action.fingerprint);
        Ok(actions)
    }

    pub(crate) fn read_action(&self, wanted: &Fingerprint) -> Result<Option<Action>, CacheError> {
        Ok(self.look_up(wanted)?.map(|(action, _)| action))
    }

    /// Reads an action, and how its file looks.
    pub(crate) fn look_up(
        &self,
        wanted: &Fingerprint,
    ) -> Result<Option<(Action, Metadata)>, CacheError> {
        let path = self.action_path(wanted);
        let Some((bytes, found)) = bytes(&path)? else { return Ok(None) };
        let action = parse(&bytes, wanted);
        if action.is_none() {
            tracing::warn!(path = %path.display(), "damaged action set aside");
            objects::set_aside(&path, &self.quarantine())?;
        }
        Ok(action.map(|action| (action, found)))
    }

    pub(crate) fn write_action(&self, action: &Action) -> Result<(), CacheError> {
        let written = Written {
            gradus_action: VERSION,
            fingerprint: action.fingerprint,
            outputs: action.outputs.clone(),
            record: action.record.clone(),
        };
        let mut bytes = serde_json::to_vec(&written).map_err(CacheError::Record)?;
        bytes.push(b'\n');
        let footer = format!("{}\n", blake3::hash(&bytes));
        bytes.extend_from_slice(footer.as_bytes());
        objects::write_durably(
            &self.root().join("attempts"),
            &self.action_path(&action.fingerprint),
            &bytes,
        )
    }

    /// Forgets a result, as one that is damaged: it is made again.
    pub fn set_aside(&self, fingerprint: &Fingerprint) -> Result<(), CacheError> {
        objects::set_aside(&self.action_path(fingerprint), &self.quarantine())
    }

    pub(crate) fn action_path(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.root().join("actions").join(shard(fingerprint))
    }
}

/// The sound action at `path`, if there is one.
pub(crate) fn read(path: &Path, wanted: &Fingerprint) -> Result<Option<Action>, CacheError> {
    Ok(bytes(path)?.and_then(|(bytes, _)| parse(&bytes, wanted)))
}

/// What the file holds; nothing if it is larger than an action can be. `None` if there is no file.
pub(crate) fn bytes(path: &Path) -> Result<Option<(Vec<u8>, Metadata)>, CacheError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing("read", path),
    };
    let found = file.metadata().doing("look at", path)?;
    let mut bytes = Vec::new();
    if found.len() <= MOST_BYTES {
        // No more than it had: to look for an end costs three calls.
        bytes.reserve_exact(usize::try_from(found.len()).unwrap_or(0));
        file.take(found.len()).read_to_end(&mut bytes).doing("read", path)?;
    }
    Ok(Some((bytes, found)))
}

pub(crate) fn parse(bytes: &[u8], wanted: &Fingerprint) -> Option<Action> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let (body, footer) = bytes.split_at(end);
    if footer != format!("{}\n", blake3::hash(body)).as_bytes() {
        return None;
    }
    let Written { gradus_action, fingerprint, outputs, record } =
        serde_json::from_slice(body).ok()?;
    let right = gradus_action == VERSION && fingerprint == *wanted;
    right.then_some(Action { fingerprint, outputs, record })
}
