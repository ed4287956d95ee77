//! Workers of other people: programs that speak the protocol and bring kinds of their own.
//!
//! As with gradus' own worker a file says what kinds there are, so that a plan starts no program; the
//! worker's first frame must show the same ones. Whose revision a kind is, only its author knows: the
//! content of `sources` is in the fingerprints, so that a program that changed runs again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gradus_protocol::catalog::{Catalog, Kind, PortType};
use serde::Deserialize;

use crate::{error::RunError, spec::is_name};

/// One entry of `workers` in `gradus.toml`, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    pub name: String,
    /// A program and its first arguments; it is started in `folder`.
    pub command: Vec<String>,
    /// The kinds that it brings, and where that is written.
    pub catalog: Catalog,
    pub catalog_file: PathBuf,
    /// What its stages' outputs depend on besides what they are given.
    pub sources: Vec<PathBuf>,
    pub folder: PathBuf,
}

/// An entry as it is written; paths are relative to the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    command: Vec<String>,
    catalog: PathBuf,
    #[serde(default)]
    sources: Vec<PathBuf>,
}

impl Plugin {
    /// Checks the entry `name` of a `gradus.toml` in `folder`.
    pub(crate) fn read(name: &str, written: &Written, folder: &Path) -> Result<Self, RunError> {
        let wrong =
            |what: String| RunError::Setup(format!("`gradus.toml`, worker `{name}`: {what}"));
        if written.command.is_empty() {
            return Err(wrong("`command` names no program".to_owned()));
        }
        let catalog_file = folder.join(&written.catalog);
        let shown = written.catalog.display();
        let text = fs::read(&catalog_file)
            .map_err(|error| wrong(format!("its catalogue `{shown}` cannot be read: {error}")))?;
        let catalog: Catalog = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("its catalogue `{shown}` cannot be understood: {error}"))
        })?;
        for kind in &catalog.kinds {
            check(kind).map_err(|what| wrong(format!("its kind `{}` {what}", kind.kind)))?;
        }
        let sources: Vec<_> = written.sources.iter().map(|path| folder.join(path)).collect();
        if let Some(gone) = written.sources.iter().find(|path| !folder.join(path).exists()) {
            return Err(wrong(format!("its source `{}` is not there", gone.display())));
        }
        Ok(Self {
            name: name.to_owned(),
            command: written.command.clone(),
            catalog,
            catalog_file,
            sources,
            folder: folder.to_owned(),
        })
    }

    /// Where the program is: a name alone is looked for on the `PATH`.
    pub(crate) fn program(&self) -> PathBuf {
        let program = Path::new(&self.command[0]);
        if program.components().count() > 1 { self.folder.join(program) } else { program.into() }
    }
}

/// The kinds of gradus itself and of all `plugins`; each may be brought by one alone.
pub fn kinds(own: &Catalog, plugins: &[Plugin]) -> Result<Catalog, RunError> {
    let mut all = own.clone();
    for plugin in plugins {
        for kind in &plugin.catalog.kinds {
            if all.kind(&kind.kind).is_some() || kind.kind == "exec" {
                return Err(RunError::Setup(format!(
                    "`gradus.toml`, worker `{}`: the kind `{}` is there already; give yours another name",
                    plugin.name, kind.kind
                )));
            }
            all.kinds.push(kind.clone());
        }
    }
    all.kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
    Ok(all)
}

/// What a plan takes for granted of a kind.
fn check(kind: &Kind) -> Result<(), String> {
    if !kind.kind.contains('.') || !kind.kind.split('.').all(is_name) {
        return Err("has no name like `family.verb`".to_owned());
    }
    if kind.outputs.is_empty() {
        return Err("has no output".to_owned());
    }
    let params = kind.params.iter().map(|it| &it.name);
    for names in [
        params.collect::<Vec<_>>(),
        kind.inputs.iter().map(|it| &it.name).collect(),
        kind.outputs.iter().map(|it| &it.name).collect(),
    ] {
        let mut seen = BTreeSet::new();
        for name in names {
            if !is_name(name) {
                return Err(format!("has `{name}`, which is no name"));
            }
            if !seen.insert(name) {
                return Err(format!("has `{name}` twice"));
            }
        }
    }
    for port in kind.inputs.iter().chain(&kind.outputs) {
        let leads = match &port.port_type {
            PortType::Is(types) => !types.is_empty(),
            PortType::ByParameter { parameter, .. } => {
                kind.params.iter().any(|it| it.name == *parameter)
            }
            PortType::SameAs { input } => kind.inputs.iter().any(|it| it.name == *input),
        };
        if !leads {
            return Err(format!("has a port `{}` whose type leads nowhere", port.name));
        }
    }
    Ok(())
}
