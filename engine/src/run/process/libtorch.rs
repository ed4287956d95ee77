//! Finds libtorch for the worker: `LIBTORCH`, `.libtorch/`, or a Python's torch. Its version is checked.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::RunError;

/// The version that the worker is built for.
const VERSION: &str = "2.11";

/// A libtorch on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder of `libtorch_cpu.so`.
    pub lib: PathBuf,
    pub version: String,
    /// Where it was found, in words.
    pub source: String,
    pub cuda: bool,
}

/// The first libtorch of the right version; the error says where was looked. One that a person names by
/// `LIBTORCH` is taken or refused, never passed over.
pub fn find_libtorch(project: &Path) -> Result<Libtorch, RunError> {
    let mut seen = Vec::new();
    if let Some(folder) = env::var_os("LIBTORCH") {
        return inspect(Path::new(&folder), "LIBTORCH").map_err(|why| {
            RunError::Setup(format!(
                "`LIBTORCH` names no libtorch {VERSION} for the worker: {}: {why}; unset it to look \
                 elsewhere",
                folder.display()
            ))
        });
    }
    for (source, folder) in places(project) {
        match inspect(&folder, &source) {
            Ok(found) => return Ok(found),
            Err(why) => seen.push(format!("\n  {source}: {why}")),
        }
    }
    match from_python() {
        Ok(found) => return Ok(found),
        Err(why) => seen.push(format!("\n  python3: {why}")),
    }
    Err(RunError::Setup(format!(
        "there is no libtorch {VERSION} for the worker; `make setup` fetches it. Looked at:{}",
        seen.concat()
    )))
}

fn places(project: &Path) -> Vec<(String, PathBuf)> {
    let mut places = Vec::new();
    let executable = env::current_exe().ok();
    let starts = [Some(project.to_owned()), executable.and_then(|it| it.canonicalize().ok())];
    for start in starts.into_iter().flatten() {
        for folder in start.ancestors().map(|parent| parent.join(".libtorch")) {
            if folder.is_dir() {
                places.push((folder.display().to_string(), folder));
            }
        }
    }
    places
}

fn inspect(folder: &Path, source: &str) -> Result<Libtorch, String> {
    let lib = folder.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        return Err("no lib/libtorch_cpu.so there".to_owned());
    }
    let version = version_of(folder).ok_or("its version cannot be told")?;
    if version.split('.').take(2).collect::<Vec<_>>().join(".") != VERSION {
        return Err(format!("it is {version}, and the worker is built for {VERSION}"));
    }
    let cuda = lib.join("libtorch_cuda.so").exists();
    Ok(Libtorch { lib, version, source: source.to_owned(), cuda })
}

/// From `build-version` (a release's archive) or the header that every installation has.
fn version_of(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let header = fs::read_to_string(folder.join("include/torch/headeronly/version.h")).ok()?;
    let number = |name: &str| {
        let line = header.lines().find(|line| line.contains(&format!("#define {name} ")))?;
        line.split_whitespace().last()?.parse::<u32>().ok()
    };
    let part = |name: &str| number(&format!("TORCH_VERSION_{name}"));
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH").unwrap_or(0)))
}

fn from_python() -> Result<Libtorch, String> {
    let script = "import importlib.util,os;s=importlib.util.find_spec('torch');\
                  print(os.path.dirname(s.origin) if s else '')";
    let output = Command::new("python3")
        .args(["-c", script])
        .output()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() {
        return Err("it has no torch".to_owned());
    }
    inspect(Path::new(&folder), &format!("python3's torch ({folder})"))
}
