//! `gradus explain`: what a stage's result depends on, now and the last time.

use std::process::Command;

use insta::{assert_json_snapshot, assert_snapshot};

use crate::support::Project;

const CHAIN: &str = "
    params: { word: one, size: 3 }
    stages:
      make:
        kind: exec
        outputs: { text: text }
        with: { shell: 'printf %s \"$WORD\" > text', env: { WORD: '${params.word}' } }
      cut:
        kind: exec
        matrix: { size: ['${params.size}', 9] }
        inputs: { text: make, list: ./list.txt }
        outputs: { head: head }
        with: { command: [sh, -c, 'head -c \"$1\" inputs/text > head', sh, '${matrix.size}'] }
";

fn chain() -> Project {
    let project = Project::new(CHAIN);
    project.write("list.txt", "a");
    assert_eq!(project.events(&[]).code, Some(0));
    project
}

#[test]
fn of_a_cached_stage_it_is_told_how_it_was_made() {
    assert_snapshot!(chain().gradus(&["explain", "p.yaml", "cut[size=3]"]));
}

#[test]
fn rows_stand_beside_those_of_the_last_time() {
    let project = chain();
    project.write("list.txt", "b");
    project.gradus(&["run", "p.yaml", "make", "--set", "word=two"]);
    let set = ["--set", "word=two"];
    assert_snapshot!(project.gradus(&[&["explain", "p.yaml", "cut[size=3]"], &set[..]].concat()));
}

#[test]
fn what_is_not_known_yet_is_said() {
    let project = chain();
    let explain = ["explain", "p.yaml", "cut[size=3]", "--set", "word=two"];
    assert_snapshot!(project.gradus(&explain));
    let project = Project::new(CHAIN);
    project.write("list.txt", "a");
    assert_snapshot!(project.gradus(&["explain", "p.yaml", "make"]));
}

#[test]
fn an_explanation_is_a_value_for_programs() {
    let explain = ["explain", "p.yaml", "make", "--set", "word=two", "--format", "json"];
    assert_json_snapshot!(chain().gradus(&explain).json());
}

#[test]
fn a_matrix_is_explained_one_variant_at_a_time() {
    assert_snapshot!(chain().gradus(&["explain", "p.yaml", "cut"]));
}

#[test]
fn the_commit_of_the_work_tree_is_kept_with_what_was_made() {
    let project = Project::new(CHAIN);
    project.write("list.txt", "a");
    let git = |arguments: &[&str]| {
        let name = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let mut git = Command::new("git");
        git.args(name).args(arguments).current_dir(project.path("")).env("HOME", project.path(""));
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "--quiet"]);
    git(&["add", "p.yaml"]);
    git(&["commit", "--quiet", "--message", "first"]);
    let made = |word: &str| {
        let set = format!("word={word}");
        project.gradus(&["run", "p.yaml", "make", "--set", &set]);
        let explain = ["explain", "p.yaml", "make", "--set", &set, "--format", "json"];
        project.gradus(&explain).json()["made"]["git"].clone()
    };
    let clean = made("one");
    assert_eq!(clean["commit"].as_str().unwrap().len(), 40);
    assert_eq!(clean["dirty"], false);
    project.pipeline(&format!("{CHAIN}    # more\n"));
    assert_eq!(made("two")["dirty"], true);
    assert_eq!(made("one")["dirty"], false, "what is cached keeps its record");
}
