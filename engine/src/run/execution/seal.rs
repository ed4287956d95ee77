//! What a program left behind, copied to where the program does not know: a child that outlives it may still write to
//! its own files, and must not reach what is taken in.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use gradus_cache::MOST_FILES;

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
        let root = path.canonicalize().unwrap_or_else(|_| path.clone());
        Copying { root, left: MOST_FILES }
            .copy(&path, &place)
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

struct Copying {
    /// The output itself.
    root: PathBuf,
    /// Files and folders that may still come; links to folders could make endlessly many.
    left: usize,
}

impl Copying {
    /// A link within the output becomes what it leads to. Any other stays a link, which is refused by its name
    /// when the output is taken in.
    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut from = from.to_owned();
        if from.is_symlink() {
            let target = from.canonicalize().ok().filter(|it| it.starts_with(&self.root));
            let above = from.parent().and_then(|it| it.canonicalize().ok());
            match target {
                Some(target) if !above.is_some_and(|above| above.starts_with(&target)) => {
                    from = target;
                }
                _ => return symlink(fs::read_link(from)?, to),
            }
        }
        if !from.is_dir() {
            reflink_copy::reflink_or_copy(&from, to)?;
            return fs::set_permissions(to, fs::metadata(&from)?.permissions());
        }
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                io::Error::other(format!("it holds more than {MOST_FILES} files and folders"))
            })?;
            let entry = entry?;
            self.copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }
}
