//! Snapshots of what a pipeline puts out: `snapshots/PIPELINE__STAGE….snap` beside it.
//!
//! The files have insta's form, so that `cargo insta review` can go through what differs. Numbers are
//! compared with a tolerance; text to the letter.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use gradus_cache::{Artifact, Cache, Form};

use crate::{
    error::RunError,
    plan::{Plan, Snapshot},
    run::history::{RunRecord, StageRecord, file_name},
    spec::What,
};

/// Text that is longer is better compared by its digest.
const LONGEST: u64 = 1 << 20;

/// What a comparison found.
#[derive(Debug)]
pub struct Checked {
    /// `metrics of dpo`, `text of compared.report`.
    pub title: String,
    /// Where the snapshot lies, or is to lie.
    pub file: PathBuf,
    pub verdict: Verdict,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Same,
    /// What was found is the snapshot from now on.
    Accepted,
    /// There is no snapshot yet; this was found.
    Missing(String),
    /// Numbers that are too far off, or are in one of both alone.
    Numbers(Vec<NumberOff>, f64),
    /// The text that was expected and the one that was found.
    Text {
        expected: String,
        found: String,
    },
    /// The output is no text that could be compared.
    Unreadable(String),
}

/// A number that is not as it was.
#[derive(Debug, PartialEq)]
pub struct NumberOff {
    pub name: String,
    /// In words; `None` where it is absent.
    pub expected: Option<String>,
    pub found: Option<String>,
}

/// Compares what `record` put out with the snapshots beside `pipeline`; or makes it the snapshots.
pub fn check(
    cache: &Cache,
    plan: &Plan,
    record: &RunRecord,
    pipeline: &Path,
    accept: bool,
) -> Result<Vec<Checked>, RunError> {
    let folder = pipeline.parent().unwrap_or(Path::new("")).join("snapshots");
    let stem = pipeline.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = pipeline.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names = HashSet::new();
    let mut checked = Vec::new();
    for snapshot in &plan.snapshots {
        let stage = &plan.stages[snapshot.stage];
        let Some(ran) = record.stages.iter().find(|it| it.stage == stage.id) else { continue };
        let (word, of) = match (&snapshot.output, snapshot.what) {
            (Some(output), What::Text) => ("text", format!("{}.{output}", stage.id)),
            (Some(output), What::Table) => ("table", format!("{}.{output}", stage.id)),
            (Some(output), _) => ("digest", format!("{}.{output}", stage.id)),
            (None, _) => ("metrics", stage.id.clone()),
        };
        if snapshot.what == What::Metrics && ran.metrics.is_empty() && snapshot.only.is_empty() {
            continue;
        }
        let name = file_name(&format!("{stem}__{of}.{word}"));
        // Two names may differ only by what a file system might object to.
        let name = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") });
        let Some(name) = name.into_iter().find(|name| names.insert(name.clone())) else { continue };
        let title = format!("{word} of {of}");
        let file = folder.join(format!("{name}.snap"));
        let header =
            format!("---\nsource: {}\nexpression: {}\n---\n", quoted(&source), quoted(&title));
        let found = found(cache, snapshot, ran)?;
        let verdict = match found {
            Err(why) => Verdict::Unreadable(why),
            Ok(found) => settle(&file, &header, snapshot, &found, accept)?,
        };
        checked.push(Checked { title, file, verdict });
    }
    Ok(checked)
}

/// Snapshots of `pipeline` that nothing was compared with: of stages that are gone, or left out this time.
pub fn orphans(pipeline: &Path, checked: &[Checked]) -> Vec<PathBuf> {
    let folder = pipeline.parent().unwrap_or(Path::new("")).join("snapshots");
    let stem = pipeline.file_stem().unwrap_or_default().to_string_lossy();
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let own = name.strip_prefix(&*stem).is_some_and(|rest| rest.starts_with("__"));
        own && name.ends_with(".snap") && !checked.iter().any(|it| it.file == *path)
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(is_own).collect();
    found.sort();
    found
}

/// A JSON text is a YAML text too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What the stage put out, as text.
fn found(
    cache: &Cache,
    snapshot: &Snapshot,
    ran: &StageRecord,
) -> Result<Result<String, String>, RunError> {
    let Some(output) = &snapshot.output else {
        let wanted = |name: &String| snapshot.only.is_empty() || snapshot.only.contains(name);
        let metrics = ran.metrics.iter().filter(|(name, _)| wanted(name));
        let words = metrics.map(|(name, value)| {
            let value = value.map_or_else(|| NOT_FINITE.to_owned(), |it| it.to_string());
            format!("{name} = {value}\n")
        });
        return Ok(Ok(words.collect()));
    };
    let Some(artifact) = ran.outputs.get(output) else {
        return Ok(Err("the run did not put it out".to_owned()));
    };
    match snapshot.what {
        What::Digest => Ok(Ok(format!("{}\n{} bytes\n", artifact.digest, artifact.bytes))),
        _ => text_of(cache, artifact),
    }
}

const NOT_FINITE: &str = "not finite";

fn text_of(cache: &Cache, artifact: &Artifact) -> Result<Result<String, String>, RunError> {
    if artifact.form == Form::Tree {
        return Ok(Err("it is a folder: compare its `digest`".to_owned()));
    }
    if artifact.bytes > LONGEST {
        return Ok(Err("it is longer than a mebibyte: compare its `digest`".to_owned()));
    }
    let bytes = fs::read(cache.file(&artifact.digest))
        .map_err(RunError::io("an output of the run cannot be read"))?;
    Ok(String::from_utf8(bytes).map_err(|_| "it is no text: compare its `digest`".to_owned()))
}

/// Compares, and leaves `.snap` or `.snap.new` as it should be.
fn settle(
    file: &Path,
    header: &str,
    snapshot: &Snapshot,
    found: &str,
    accept: bool,
) -> Result<Verdict, RunError> {
    let pending = file.with_extension("snap.new");
    let failed = |path: &Path| RunError::io(format!("`{}` cannot be written", path.display()));
    let expected = match fs::read_to_string(file) {
        Ok(text) => Some(content(&text).to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(RunError::io(format!("`{}` cannot be read", file.display()))(error));
        }
    };
    let verdict = match expected {
        Some(expected) => compare(snapshot, &expected, found.trim_end()),
        None => Verdict::Missing(found.trim_end().to_owned()),
    };
    if verdict == Verdict::Same {
        remove(&pending).map_err(failed(&pending))?;
        return Ok(verdict);
    }
    let target = if accept { file } else { &pending };
    let folder = target.parent().unwrap_or(Path::new(""));
    let text = format!("{header}{}\n", found.trim_end());
    fs::create_dir_all(folder).and_then(|()| fs::write(target, text)).map_err(failed(target))?;
    if accept {
        remove(&pending).map_err(failed(&pending))?;
        return Ok(Verdict::Accepted);
    }
    Ok(verdict)
}

/// What stands behind the header.
fn content(text: &str) -> &str {
    let body = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    body.map_or(text, |(_, body)| body).trim_end()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn compare(snapshot: &Snapshot, expected: &str, found: &str) -> Verdict {
    let tolerance = snapshot.tolerance;
    let same = match snapshot.what {
        What::Metrics => {
            let off = numbers_off(expected, found, tolerance);
            if !off.is_empty() {
                return Verdict::Numbers(off, tolerance);
            }
            true
        }
        What::Table => same_table(expected, found, tolerance),
        What::Text | What::Digest => expected.lines().eq(found.lines()),
    };
    if same {
        return Verdict::Same;
    }
    Verdict::Text { expected: expected.to_owned(), found: found.to_owned() }
}

fn numbers_off(expected: &str, found: &str, tolerance: f64) -> Vec<NumberOff> {
    let read = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.lines().filter_map(|line| line.split_once(" = "));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (expected, found) = (read(expected), read(found));
    let mut names: Vec<&String> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let off = names.into_iter().filter_map(|name| {
        let (expected, found) = (expected.get(name).cloned(), found.get(name).cloned());
        let agrees = match (&expected, &found) {
            (Some(expected), Some(found)) => agrees(expected, found, tolerance),
            _ => false,
        };
        (!agrees).then(|| NumberOff { name: name.clone(), expected, found })
    });
    off.collect()
}

/// Whether two words are one, or two numbers that are near enough.
fn agrees(expected: &str, found: &str, tolerance: f64) -> bool {
    match (expected.trim().parse::<f64>(), found.trim().parse::<f64>()) {
        (Ok(a), Ok(b)) if a.is_finite() && b.is_finite() => {
            (a - b).abs() <= tolerance * a.abs().max(1.0)
        }
        _ => expected == found,
    }
}

/// Cell by cell, whatever stands between cells.
fn same_table(expected: &str, found: &str, tolerance: f64) -> bool {
    let cells = |text: &str| -> Vec<String> {
        let ends =
            |c: char| matches!(c, ',' | ';' | '\t' | '\n' | '"' | ':' | '{' | '}' | '[' | ']');
        text.replace("\r\n", "\n").split_inclusive(ends).map(str::to_owned).collect()
    };
    let (expected, found) = (cells(expected), cells(found));
    let parts = |cell: &str| {
        let end = cell.chars().next_back().filter(|c| !c.is_ascii_alphanumeric() && *c != '.');
        (cell.trim_end_matches(|c| Some(c) == end).to_owned(), end)
    };
    expected.len() == found.len()
        && expected.iter().zip(&found).all(|(expected, found)| {
            let ((a, a_end), (b, b_end)) = (parts(expected), parts(found));
            a_end == b_end && agrees(&a, &b, tolerance)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_within_the_tolerance_or_that_part_of_them() {
        assert!(agrees("0.5", "0.505", 0.01));
        assert!(!agrees("0.5", "0.52", 0.01));
        assert!(agrees("1000", "1005", 0.01));
        assert!(!agrees("not finite", "1", 9.0));
        assert!(agrees("not finite", "not finite", 0.0));
    }

    #[test]
    fn tables_are_compared_cell_by_cell() {
        assert!(same_table("a,b\nx,1.0", "a,b\nx,1.0000001", 1e-6));
        assert!(!same_table("a,b\nx,1.0", "a,b\ny,1.0", 1e-6));
        assert!(!same_table("a,b\nx,1.0", "a;b\nx,1.0", 1e-6));
        assert!(!same_table("1\n2", "1\n2\n3", 1e-6));
        assert!(same_table(r#"{"a": 0.1}"#, r#"{"a": 0.10000000001}"#, 1e-6));
    }

    #[test]
    fn what_insta_writes_is_read() {
        assert_eq!(content("---\nsource: p.yaml\nexpression: x\n---\na = 1\n"), "a = 1");
        assert_eq!(content("---\nsource: p.yaml\n---\n---\nmore\n---\n"), "---\nmore\n---");
        assert_eq!(content("no header\n"), "no header");
    }
}
