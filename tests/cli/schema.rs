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
    ] {
        let text = valid.replacen(from, to, 1);
        assert_ne!(text, valid);
        assert!(!validator.is_valid(&yaml(&text)), "{text}");
    }
}
