//! `gradus check`: every class of mistake, as its author sees it.

mod compared;
mod composed;
mod conduct;
mod hints;
mod matrix;
mod stages;
mod text;
mod values;
mod wiring;

use std::{collections::BTreeSet, fs, path::Path};

use insta::assert_snapshot;

use crate::support::{Project, Ran};

/// What a person reads about a pipeline.
fn check(pipeline: &str) -> (Project, Ran) {
    let project = Project::new(pipeline);
    let ran = project.gradus(&["check", "p.yaml"]);
    (project, ran)
}

#[test]
fn every_class_of_mistake_is_in_a_snapshot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("engine/src/spec/mistake.rs")).unwrap();
    let names = source.lines().filter_map(|line| line.trim().split_once(" => \""));
    let mut known: BTreeSet<_> = names
        .filter_map(|(_, name)| name.strip_suffix("\","))
        .filter(|name| name.contains("::"))
        .collect();
    assert!(known.len() >= 20, "the names of problems are written in another way now");
    for entry in fs::read_dir(root.join("tests/cli/check/snapshots")).unwrap() {
        let shown = fs::read_to_string(entry.unwrap().path()).unwrap();
        known.retain(|name| !shown.lines().any(|line| line == format!("gradus::{name}")));
    }
    assert_eq!(known, BTreeSet::new());
}

#[test]
fn a_sound_pipeline_is_said_to_be_sound() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: data.synthetic, with: { task: reviews } }
          two: { kind: data.tokenizer, inputs: { rows: one } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn mistakes_come_all_at_once() {
    let (_project, ran) = check(
        "
        nmae: all-at-once
        stages:
          rows: { kind: data.synthetic, with: { task: poems, text: 0, demonstration: 5 } }
          tune:
            kind: train.sft
            inputs: { model: rows, completions: rwos.demonstrations }
            with: { learning_rate: fast, epochs: '${params.epochs}' }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn sound_and_faulty_pipelines_are_told_apart() {
    let (project, _) = check("stages: { a: { kind: data.synthetic, with: { task: reviews } } }");
    project.write("wrong.yaml", "stages: { a: { kind: data.synthetic } }");
    assert_snapshot!(project.gradus(&["check", "wrong.yaml", "p.yaml", "missing.yaml"]));
}

#[test]
fn programs_get_mistakes_as_one_value() {
    let (project, _) = check("stages: { a: { kind: data.synthetic, with: { task: reviews } } }");
    project.write("wrong.yaml", "# é\nstages: { é: 1, a: { kind: data.synthetc } }");
    let ran = project.gradus(&["check", "wrong.yaml", "p.yaml", "--format", "json"]);
    ran.json();
    assert_snapshot!(ran);
}
