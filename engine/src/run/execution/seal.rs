//! What a program left behind, copied to where the program does not know: a child that outlives it may still write to
//! its own files, and must not reach what is taken in.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{error::RunError, plan::Stage};

/// Copies of `outputs` below `to`, which share the disk's blocks where the file system can do that.
pub(crate) fn seal(
    stage: &Stage,
    outputs: BTreeMap<String, PathBuf>,
    to: &Path,
) -> Result<BTreeMap<String, PathBuf>, RunError> {
    let sealed = |(name, path): (String, PathBuf)| {
        check_form(stage, &name, &path)?;
        let place = to.join(&name);
        copy(&path, &place)
            .map_err(RunError::io(format!("the output `{name}` cannot be copied")))?;
        Ok((name, place))
    };
    outputs.into_iter().map(sealed).collect()
}

/// Refuses a folder that is declared as a file, and a file that is declared as a folder.
fn check_form(stage: &Stage, name: &str, path: &Path) -> Result<(), RunError> {
    let port = stage.kind.outputs.iter().position(|port| port.name == name);
    let declared = port.and_then(|port| stage.output_types.get(port)).map_or("", String::as_str);
    let words = match (declared, path.is_dir()) {
        ("file", true) => {
            "is declared as a file, and the program left a folder: write its path with a `/` behind it"
        }
        ("folder", false) => {
            "is declared as a folder, and the program left a file: write its path without the `/`"
        }
        _ => return Ok(()),
    };
    Err(RunError::Stage(format!("the output `{name}` {words}")))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        // Refused by its name when it is taken in.
        return symlink(fs::read_link(from)?, to);
    }
    if !kind.is_dir() {
        return reflink_copy::reflink_or_copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
