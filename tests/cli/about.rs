//! What `gradus` says about itself, its kinds and the machine.

use gradus_protocol::catalog::{Catalog, Kind};
use insta::assert_snapshot;

use crate::support::Project;

fn gradus(arguments: &[&str]) -> (Project, crate::support::Ran) {
    let project = Project::new("");
    let ran = project.gradus(arguments);
    (project, ran)
}

#[test]
fn help_lists_the_commands() {
    assert_snapshot!(gradus(&["--help"]).1);
}

#[test]
fn help_of_a_command_explains_its_words() {
    assert_snapshot!(gradus(&["run", "--help"]).1);
}

#[test]
fn an_unknown_command_is_no_command() {
    assert_snapshot!(gradus(&["rnu"]).1);
}

/// The kinds of the committed catalogue. Most tests here hold for all, so that a new one breaks none.
fn kinds() -> Vec<Kind> {
    let catalog: Catalog = serde_json::from_str(include_str!("../../stages/catalog.json")).unwrap();
    catalog.kinds
}

#[test]
fn kinds_are_listed_with_a_line_each() {
    let (_project, ran) = gradus(&["stages"]);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), kinds().len() + 1, "all, and `exec`");
    for kind in kinds() {
        let is_its = |line: &&&str| line.split_whitespace().next() == Some(kind.kind.as_str());
        let line = lines.iter().find(is_its).unwrap();
        assert!(line.ends_with(kind.summary()), "{line}");
    }
}

#[test]
fn a_kind_is_documented_with_its_parameters_and_ports() {
    assert_snapshot!(gradus(&["stages", "show", "data.tokenizer"]).1);
}

#[test]
fn every_kind_is_documented_in_full() {
    let project = Project::new("");
    for kind in kinds() {
        let ran = project.gradus(&["stages", "show", &kind.kind]);
        let ports = kind.inputs.iter().chain(&kind.outputs);
        let docs = kind.params.iter().map(|it| (&it.name, &it.doc));
        for (name, doc) in docs.chain(ports.map(|it| (&it.name, &it.doc))) {
            assert!(ran.stdout.contains(&format!("  {name} (")), "`{name}` in {ran}");
            assert!(doc.lines().all(|line| ran.stdout.contains(line)), "`{name}` in {ran}");
        }
    }
}

#[test]
fn exec_is_documented_like_any_kind() {
    assert_snapshot!(gradus(&["stages", "show", "exec"]).1);
}

#[test]
fn an_unknown_kind_is_not_documented() {
    assert_snapshot!(gradus(&["stages", "show", "policy.dop"]).1);
}

#[test]
fn kinds_are_values_for_programs() {
    let (_project, ran) = gradus(&["stages", "--format", "json"]);
    assert_eq!(ran.json().as_array().unwrap().len(), kinds().len() + 1);
    let (_project, ran) = gradus(&["stages", "show", "train.sft", "--format", "json"]);
    assert_eq!(ran.json()["outputs"][0]["type"]["is"][0], "model");
}

#[test]
fn completions_are_written_for_each_shell() {
    for (shell, word) in
        [("bash", "_gradus()"), ("zsh", "#compdef gradus"), ("fish", "complete -c gradus")]
    {
        let (_project, ran) = gradus(&["completions", shell]);
        assert!(ran.code == Some(0) && ran.stdout.contains(word), "{ran}");
    }
}

#[test]
fn the_doctor_says_what_there_is() {
    let mut project = Project::new("");
    project.set("CUDA_VISIBLE_DEVICES", "");
    project.set("GRADUS_WORKER", "libtorch/build-version");
    assert_snapshot!(project.gradus(&["doctor"]));
    assert_snapshot!(project.gradus(&["doctor", "--format", "json"]));
}

#[test]
fn the_doctor_says_what_is_missing() {
    let mut project = Project::new("");
    project.set("CUDA_VISIBLE_DEVICES", "");
    project.set("GRADUS_WORKER", "nowhere/gradus-worker");
    project.write("libtorch/build-version", "2.4.0");
    let report = project.gradus(&["doctor", "--format", "json"]);
    assert_eq!(report.code, Some(2));
    let rows = report.json();
    let problem = |row: usize| rows[row]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem(0).contains("`nowhere/gradus-worker`"), "{report}");
    assert!(problem(1).contains("libtorch: it is 2.4.0"), "{report}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let project = Project::new("");
    let mut command = project.command(&["completions", "zsh"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_new_project_checks_out_and_keeps_what_was_there() {
    let project = Project::new("");
    project.write("new/.gitignore", "mine\n");
    let made = project.gradus(&["init", "new"]);
    assert_snapshot!(made, @"
    exit code 0
    --- stdout
    made  new/gradus.toml
    made  new/pipeline.yaml
    kept  new/.gitignore
    next: gradus run new/pipeline.yaml
    ");
    assert_eq!(project.read("new/.gitignore"), "mine\n");
    let checked = project.gradus(&["check", "new/pipeline.yaml"]);
    assert_snapshot!(checked, @"
    exit code 0
    --- stdout
    ✓ new/pipeline.yaml: 9 stages
    ");
    assert_eq!(project.gradus(&["init", "new"]).stdout.matches("kept").count(), 3);
}

#[test]
fn all_commands_of_a_folder_agree_on_the_cache() {
    let project = Project::new("");
    project.write(
        "deep/er/p.yaml",
        "stages:\n  s: { kind: exec, outputs: { o: o }, with: { shell: 'echo > o' } }\n",
    );
    assert_eq!(project.gradus(&["run", "deep/er/p.yaml"]).code, Some(0));
    let listed = |words: &[&str]| project.gradus(words).stdout.lines().count();
    assert_eq!((listed(&["runs"]), listed(&["runs", "deep/er/p.yaml"])), (1, 1));
    assert!(project.path(".gradus").exists() && !project.path("deep/er/.gradus").exists());
    // With a file that says where the project begins it is that.
    project.write("deep/gradus.toml", "");
    assert_eq!(project.gradus(&["run", "deep/er/p.yaml"]).code, Some(0));
    assert!(project.path("deep/.gradus").exists() && !project.path("deep/er/.gradus").exists());
}
