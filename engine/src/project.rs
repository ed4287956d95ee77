//! Where a project begins and keeps its cache.
//!
//! The project is the nearest folder above a pipeline that holds `gradus.toml`, else the folder that one is in: so all
//! commands that are given there agree on the cache, whether they name a pipeline or not.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use gradus_remote::{Remote, Settings};
use serde::Deserialize;

use crate::{
    error::RunError,
    plugin::{self, Plugin},
    run::{CheckpointSettings, THREADS},
};

const FILE: &str = "gradus.toml";

/// The folder of a project, and its cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    pub root: PathBuf,
    pub cache: PathBuf,
    pub checkpoint: CheckpointSettings,
    /// Threads inside one operation on the CPU.
    pub threads: u32,
    pub remote: Option<Settings>,
    /// Workers besides gradus' own, as they are written.
    workers: BTreeMap<String, plugin::Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The cache's folder, relative to this file.
    cache: Option<PathBuf>,
    #[serde(default)]
    shared: Shared,
    #[serde(default)]
    checkpoint: CheckpointSettings,
    #[serde(default)]
    cpu: Cpu,
    /// Where results are shared with other machines.
    remote: Option<Settings>,
    #[serde(default)]
    workers: BTreeMap<String, plugin::Written>,
}

/// Who else writes to the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shared {
    #[default]
    Nobody,
    /// All that are in the group of the cache's folder.
    Group,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cpu {
    threads: u32,
}

impl Default for Cpu {
    fn default() -> Self {
        Self { threads: THREADS }
    }
}

/// More than any operation has a use for.
const MOST_THREADS: u32 = 1024;

impl Project {
    /// Finds the project of `pipeline`; `cache` is what the command line says, if anything.
    pub fn of(pipeline: &Path, cache: Option<&Path>) -> Result<Self, RunError> {
        let parent = pipeline.parent().unwrap_or(Path::new("."));
        let own = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let own = own
            .canonicalize()
            .map_err(RunError::io(format!("the folder `{}` cannot be opened", own.display())))?;
        for path in [pipeline, &own].into_iter().chain(cache) {
            if path.to_str().is_none() {
                return Err(RunError::Setup(format!(
                    "the path `{}` is not UTF-8, and records keep paths as text: give it another name, or move it",
                    path.display()
                )));
            }
        }
        let root = own.ancestors().find(|folder| folder.join(FILE).is_file());
        let here = || Path::new(".").canonicalize().map_err(RunError::io("the current folder"));
        let root = root.map_or_else(here, |root| Ok(root.to_owned()))?;
        let written = read(&root.join(FILE))?;
        let cache = match (cache, written.cache) {
            (Some(named), _) => named.to_owned(),
            (None, Some(named)) => root.join(named),
            (None, None) => root.join(".gradus"),
        };
        if written.shared == Shared::Group {
            share_with_group(&cache)?;
        }
        let Written { checkpoint, cpu: Cpu { threads }, remote, workers, .. } = written;
        if !(1..=MOST_THREADS).contains(&threads) {
            return Err(RunError::Setup(format!(
                "`{}`: `threads` of `[cpu]` is at least 1 and at most {MOST_THREADS}, not {threads}",
                root.join(FILE).display()
            )));
        }
        Ok(Self { root, cache, checkpoint, threads, remote, workers })
    }

    /// The workers that the project brings; the first one's mistake, if there is one.
    pub fn plugins(&self) -> Result<Vec<Plugin>, RunError> {
        self.each_plugin().map(|(_, plugin)| plugin).collect()
    }

    /// The same with their names, whatever is wrong with some.
    pub fn each_plugin(&self) -> impl Iterator<Item = (&str, Result<Plugin, RunError>)> {
        let workers = self.workers.iter();
        workers.map(|(name, written)| (name.as_str(), Plugin::read(name, written, &self.root)))
    }

    /// The remote that is written down, if any is. Nothing is asked of it yet.
    pub fn open_remote(&self) -> Result<Option<Remote>, RunError> {
        let opened = self.remote.as_ref().map(|settings| Remote::open(settings, &self.root));
        Ok(opened.transpose()?)
    }
}

/// Whatever this process and its children write from now on, the group may write as well; and a new cache is the
/// group's that its place is of.
fn share_with_group(cache: &Path) -> Result<(), RunError> {
    // SAFETY: sets a mask of this process, and cannot fail.
    unsafe { libc::umask(0o002) };
    let failed = || RunError::io(format!("`{}` cannot be shared with a group", cache.display()));
    if !cache.exists() {
        fs::create_dir_all(cache).map_err(failed())?;
        let place = fs::metadata(cache.join("..")).map_err(failed())?;
        chown(cache, None, Some(place.gid())).map_err(failed())?;
        // What is made below it is of its group, too.
        return fs::set_permissions(cache, Permissions::from_mode(0o2775)).map_err(failed());
    }
    let found = fs::metadata(cache).map_err(failed())?;
    if found.mode() & 0o2070 == 0o2070 {
        return Ok(());
    }
    let cache = cache.display();
    Err(RunError::Setup(format!(
        "`gradus.toml` says `shared = \"group\"`, and `{cache}` was made for one person alone; whoever made it says: \
         chgrp -R GROUP {cache} && chmod -R g+rwX {cache} && find {cache} -type d -exec chmod g+s {{}} +"
    )))
}

fn read(file: &Path) -> Result<Written, RunError> {
    match fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| RunError::Setup(format!("`{}`: {error}", file.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
        Err(error) => Err(RunError::io(format!("`{}` cannot be read", file.display()))(error)),
    }
}
