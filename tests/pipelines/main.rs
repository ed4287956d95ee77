//! The shipped pipelines, run whole by the real worker on the CPU.
//!
//! `make test` names the worker; without one these tests say so and pass, so that a bare `cargo test` needs
//! no libtorch. Bytes are promised per class of processor: where a class has a snapshot, digests and
//! metrics must equal it; elsewhere only what the pipelines claim is checked.
#![expect(clippy::unwrap_used, reason = "test code")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "most of it is for the tests of the command line")]
mod support;

mod baselines;
mod extend;
mod flagship;
mod kill;
mod on_line;
mod papers;
mod preferences;
mod quickstart;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use support::{Events, Project};

/// A project with `pipeline` as its `p.yaml`, and the real worker.
fn project_of(pipeline: &str) -> Option<Project> {
    let (Some(worker), Some(libtorch)) = (env::var_os("GRADUS_WORKER"), env::var_os("LIBTORCH"))
    else {
        println!("skipped: GRADUS_WORKER and LIBTORCH are not set; `make test` sets them");
        return None;
    };
    let mut project = Project::new(pipeline);
    project.expect_to_take(Duration::from_mins(20));
    project.set("GRADUS_WORKER", worker.to_str().unwrap());
    project.set("LIBTORCH", libtorch.to_str().unwrap());
    Some(project)
}

/// A project with a copy of `pipelines/NAME.yaml`, of its example and of all parts.
fn project(name: &str) -> Option<Project> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let project = project_of(&fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap())?;
    let example = format!("{name}.example.jsonl");
    if folder.join(&example).exists() {
        project.write(&example, fs::read(folder.join(&example)).unwrap());
    }
    copy(&project, &folder, "parts");
    Some(project)
}

/// A project with a copy of a paper's pipeline, and of what it includes.
fn paper(name: &str) -> Option<Project> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/papers");
    let project = project_of(&fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap())?;
    copy(&project, &folder, "runs");
    Some(project)
}

/// Real data, if this machine has it: it lies outside the project, in `../shared/data`.
fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path.canonicalize().unwrap());
    }
    println!("skipped: there is no {}", path.display());
    None
}

/// Copies the files of a folder into one of the same name.
fn copy(project: &Project, from: &Path, name: &str) {
    for file in fs::read_dir(from.join(name)).unwrap().map(Result::unwrap) {
        let name = format!("{name}/{}", file.file_name().to_str().unwrap());
        project.write(&name, fs::read(file.path()).unwrap());
    }
}

/// Runs the project's pipeline, which must end well.
fn run(project: &Project, arguments: &[&str]) -> Events {
    let events = project.events(arguments);
    let failed: Vec<&Value> = events.of("failed").collect();
    assert!(events.code == Some(0) && failed.is_empty(), "{failed:#?}");
    events
}

/// Holds the project's results to the snapshots that lie beside the shipped pipeline, as its users do.
fn assert_as_shipped(project: &Project, name: &str, settings: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let file = format!("{name}.yaml");
    project.write(&file, fs::read(folder.join(&file)).unwrap());
    for snapshot in fs::read_dir(folder.join("snapshots")).unwrap().flatten() {
        let name = snapshot.file_name().into_string().unwrap();
        project.write(&format!("snapshots/{name}"), fs::read(snapshot.path()).unwrap());
    }
    let tested = project.gradus(&[&["test", &file], settings].concat());
    assert_eq!(tested.code, Some(0), "{tested}");
}

/// A final number of a stage.
fn metric(events: &Events, stage: &str, name: &str) -> f64 {
    let ended = events.list.iter().find(|it| it["stage"] == stage && it["metrics"].is_object());
    let value = ended.map_or(&Value::Null, |it| &it["metrics"][name]);
    value.as_f64().unwrap_or_else(|| panic!("`{stage}` has no `{name}`"))
}

/// The digests of every stage's outputs, and its metrics, by stage.
fn outputs(events: &Events) -> Value {
    let ended = events.list.iter().filter(|it| it["outputs"].is_object());
    let stages = ended.map(|it| {
        let outputs = it["outputs"].as_object().unwrap().iter();
        let digests: serde_json::Map<_, _> =
            outputs.map(|(port, artifact)| (port.clone(), artifact["digest"].clone())).collect();
        let stage = it["stage"].as_str().unwrap().to_owned();
        (stage, json!({ "outputs": digests, "metrics": it["metrics"] }))
    });
    // Stages that do not wait for each other end in any order.
    let sorted: std::collections::BTreeMap<_, _> = stages.collect();
    json!(sorted)
}

/// Holds a run to the snapshot of this class of processor, if there is one.
fn assert_as_before(name: &str, events: &Events) {
    let class = class();
    let file = format!("pipelines__{name}@{class}.snap");
    let known = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pipelines/snapshots")
        .join(&file)
        .exists();
    if !known && env::var_os("INSTA_UPDATE").is_none() {
        println!("skipped: no snapshot {file}; INSTA_UPDATE=always makes one");
        return;
    }
    let mut settings = insta::Settings::new();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_suffix(class);
    let text = serde_json::to_string_pretty(&outputs(events)).unwrap();
    settings.bind(|| insta::assert_snapshot!(format!("pipelines__{name}"), text));
}

/// The class of processor that goes into fingerprints, as a file name.
fn class() -> String {
    let devices = gradus_engine::run::Devices::choose("cpu", &[], 2).unwrap();
    devices.class.replace(' ', "_")
}
