//! The JSON Schema that `gradus schema` prints, held to what the plan itself accepts and refuses.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::Project;

fn validator() -> jsonschema::Validator {
    let schema = Project::new("").gradus(&["schema"]).json();
    jsonschema::validator_for(&schema).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_shipped_pipeline_is_valid() {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pipelines = files.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    let mut count = 0;
    for path in pipelines {
        let errors: Vec<String> = validator
            .iter_errors(&yaml(&fs::read_to_string(&path).unwrap()))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn what_no_plan_accepts_is_invalid() {
    let validator = validator();
    let valid = "stages: { r: { kind: data.synthetic, with: { task: reviews, text: 5, seed: '${params.s}' } } }";
    assert!(validator.is_valid(&yaml(valid)));
    for (from, to) in [
        ("data.synthetic", "data.syntetic"),
        ("task: reviews", "task: poems"),
        ("task: reviews, ", ""),
        ("text: 5", "text: 0"),
        ("text: 5", "text: many"),
        ("text: 5", "txt: 5"),
        ("seed: '${params.s}'", "seed: -1"),
        ("kind: ", "kin: "),
        ("with: ", "inputs: { a: b }, with: "),
        ("stages: ", "stagse: "),
        ("stages: ", "snapshot: [{ metric: r }]\nstages: "),
        ("stages: ", "snapshot: [{ text: r.text, tolerance: 1 }]\nstages: "),
    ] {
        let text = valid.replacen(from, to, 1);
        assert_ne!(text, valid);
        assert!(!validator.is_valid(&yaml(&text)), "{text}");
    }
}

/// A pipeline with every key there is.
const EVERY_KEY: &str = "
include: { base: base.yaml, other: { path: other.yaml, params: { seed: 1 } } }
templates:
  rows:
    kind: data.synthetic
    required: [task]
    args: { noise: 0.1 }
    with: { task: '${args.task}', label_noise: '${args.noise}' }
stages:
  rows: { template: rows, args: { task: reviews }, with: { text: 5 } }
  says:
    kind: exec
    description: Says something.
    matrix: { a: [1, 2], b: '${params.b}', exclude: [{ a: 1 }], include: [{ a: 3, b: 4 }] }
    when: [true, '${params.c}', { value: '${matrix.a}', is: [1, 3] }, { value: x, not: y }]
    cache: false
    retries: 2
    timeout: 1h 30m
    resources: { cpus: 2, gpus: 0, mem: 8GiB, nodes: 1, time: 90 }
    env: { A: 1, B: x }
    secret: [HF_TOKEN]
    inputs: { a: base/rows }
    outputs: { a: a }
    with: { command: [ls] }
";

#[test]
fn every_key_is_known_and_held_to_its_values() {
    let validator = validator();
    assert!(
        validator.is_valid(&yaml(EVERY_KEY)),
        "{:?}",
        validator
            .iter_errors(&yaml(EVERY_KEY))
            .map(|it| format!("{}: {it}", it.instance_path()))
            .collect::<Vec<_>>()
    );
    for (from, to) in [
        ("path: other.yaml, ", ""),
        ("base: base.yaml", "base: [base.yaml]"),
        ("kind: data.synthetic", "args: {}"),
        ("required: [task]", "required: task"),
        ("template: rows", "template: rows, kind: data.synthetic"),
        ("exclude: [{ a: 1 }]", "exclude: [1]"),
        ("a: [1, 2]", "a: 1"),
        ("when: [true", "when: [1"),
        ("is: [1, 3]", "ist: [1, 3]"),
        ("cache: false", "cache: 0"),
        ("retries: 2", "retries: 11"),
        ("timeout: 1h 30m", "timeout: 1 fortnight"),
        ("cpus: 2", "cpus: 0"),
        ("cpus: 2", "cpu: 2"),
        ("B: x", "B: [x]"),
        ("secret: [HF_TOKEN]", "secret: ['${env.HF_TOKEN}']"),
    ] {
        let text = EVERY_KEY.replacen(from, to, 1);
        assert_ne!(text, EVERY_KEY);
        assert!(!validator.is_valid(&yaml(&text)), "{from} → {to}");
    }
}

#[test]
fn every_key_is_explained() {
    let schema = Project::new("").gradus(&["schema"]).json();
    let stage = &schema["properties"]["stages"]["additionalProperties"]["properties"];
    for (key, value) in stage.as_object().unwrap() {
        assert!(key == "description" || value["description"].is_string(), "{key}");
    }
    for key in ["include", "templates", "params", "env", "name", "snapshot"] {
        assert!(schema["properties"][key]["description"].is_string(), "{key}");
    }
}
