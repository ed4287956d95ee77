//! `gradus export`: outputs as plain files.

use std::fs;

use insta::assert_snapshot;

use crate::support::Project;

const MAKE: &str = "
    stages:
      make:
        kind: exec
        outputs: { text: text, folder: folder/ }
        with: { shell: 'echo x > text; mkdir -p folder/deep; echo y > folder/deep/file' }
      each:
        kind: exec
        matrix: { n: [0.1, 0.2] }
        outputs: { text: text }
        with: { command: [sh, -c, 'echo \"$1\" > text', sh, '${matrix.n}'] }
";

fn made() -> Project {
    let project = Project::new(MAKE);
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    project
}

#[test]
fn all_outputs_of_a_stage_are_written() {
    let project = made();
    assert_snapshot!(project.gradus(&["export", "p.yaml", "make", "out"]));
    assert_eq!(project.read("out/text"), "x\n");
    assert_eq!(project.read("out/folder/deep/file"), "y\n");
}

#[test]
fn one_folder_is_the_folder_itself() {
    let project = made();
    fs::create_dir(project.path("out")).unwrap();
    assert_snapshot!(project.gradus(&["export", "p.yaml", "make.folder", "out"]));
    assert_eq!(project.read("out/deep/file"), "y\n");
}

#[test]
fn one_file_is_written_into_the_folder() {
    let project = made();
    let ran = project.gradus(&["export", "p.yaml", "make.text", "a/b", "--format", "json"]);
    assert_eq!(ran.json()["exported"][0]["path"], "a/b/text");
    assert_eq!(project.read("a/b/text"), "x\n");
}

#[test]
fn a_variant_is_named_by_its_point() {
    let project = made();
    assert_eq!(project.gradus(&["export", "p.yaml", "each[n=0.2]", "one"]).code, Some(0));
    assert_eq!(project.read("one/text"), "0.2\n");
    assert_eq!(project.gradus(&["export", "p.yaml", "each[n=0.1].text", "two"]).code, Some(0));
    assert_eq!(project.read("two/text"), "0.1\n");
}

#[test]
fn what_is_exported_can_be_changed_without_harm() {
    let project = made();
    project.gradus(&["export", "p.yaml", "make", "out"]);
    project.write("out/text", "changed");
    fs::remove_dir_all(project.path("out")).unwrap();
    project.gradus(&["export", "p.yaml", "make", "out"]);
    assert_eq!(project.read("out/text"), "x\n");
}

#[test]
fn what_cannot_be_exported_says_why() {
    let project = made();
    let export = |stage: &str, to: &str| project.gradus(&["export", "p.yaml", stage, to]);
    assert_snapshot!("several_variants", export("each", "out"));
    assert_snapshot!("unknown_output", export("make.txt", "out"));
    assert_snapshot!("unknown_stage", export("mkae", "out"));
    project.write("full/file", "");
    assert_snapshot!("not_empty", export("make", "full"));
    assert_snapshot!("a_file", export("make", "full/file"));
    project.pipeline(&MAKE.replace("echo x", "echo z"));
    assert_snapshot!("not_cached", export("make", "out"));
    assert!(!project.path("out").exists());
}

#[test]
fn what_always_runs_is_exported_as_it_was_made_last() {
    let project = Project::new(
        "
        stages:
          a: { kind: exec, cache: false, outputs: { o: o }, with: { shell: 'echo one > o' } }
          b: { kind: exec, inputs: { i: a }, outputs: { o: o }, with: { shell: 'cat inputs/i > o' } }
        ",
    );
    project.gradus(&["run", "p.yaml"]);
    for stage in ["a", "b"] {
        let ran = project.gradus(&["export", "p.yaml", stage, stage]);
        assert_eq!(ran.code, Some(0), "{ran}");
        assert_eq!(project.read(&format!("{stage}/o")), "one\n");
    }
}
