//! `gradus lineage`: what made a file, back to the data.

use std::fs;

use insta::{assert_json_snapshot, assert_snapshot};

use crate::support::Project;

const CHAIN: &str = "
    name: chain
    stages:
      make:
        kind: exec
        inputs: { list: list.txt }
        outputs: { text: text, log: log }
        with: { shell: 'cat inputs/list inputs/list > text; echo done > log', env: { WORD: one } }
      pair:
        kind: exec
        inputs: { one: make.text, two: make.log }
        outputs: { both: both/ }
        with: { shell: 'mkdir both; cat inputs/* > both/all; cp inputs/two both' }
      count:
        kind: exec
        matrix: { unit: [c, l] }
        inputs: { text: make.text, folder: pair }
        outputs: { size: size }
        with: { command: [sh, -c, 'wc -$1 < inputs/text > size; cat inputs/folder/all >> size', sh, '${matrix.unit}'] }
";

fn chain() -> Project {
    let project = Project::new(CHAIN);
    project.write("list.txt", "a\n");
    assert_eq!(project.events(&[]).code, Some(0));
    project
}

#[test]
fn a_file_is_followed_back_to_the_data() {
    assert_snapshot!(chain().gradus(&["lineage", ".gradus/outputs/chain/count[unit=c].size"]));
}

#[test]
fn an_output_is_named_by_its_stage() {
    let project = chain();
    assert_snapshot!(project.gradus(&["lineage", "pair"]));
    let size = |arguments: &[&str]| {
        let all = [&["lineage", "--format", "json"], arguments].concat();
        project.gradus(&all).json()["artifact"]["digest"].as_str().unwrap().to_owned()
    };
    let digest = size(&["make.text"]);
    assert_eq!(size(&["make.text", "--of", "p.yaml"]), digest);
    assert_eq!(size(&[&digest]), digest);
    assert_eq!(size(&[&digest[..8]]), digest);
}

#[test]
fn a_file_inside_of_a_folder_is_known_by_its_folder() {
    let project = chain();
    let ran = project.gradus(&["lineage", ".gradus/outputs/chain/count[unit=l].size"]);
    assert_eq!(ran.code, Some(0));
    project.gradus(&["export", "p.yaml", "pair", "out"]);
    let ran = project.gradus(&["lineage", "out/both/all"]);
    assert!(ran.stdout.starts_with("all in pair.both  folder"), "{ran}");
    let folder = project.gradus(&["lineage", "out/both", "--format", "json"]).json();
    assert_eq!(folder["actions"][0]["made"]["stage"], "pair");
}

#[test]
fn a_lineage_is_a_value_for_programs() {
    assert_json_snapshot!(chain().gradus(&["lineage", "pair", "--format", "json"]).json());
}

#[test]
fn a_lineage_is_a_picture_for_mermaid() {
    assert_snapshot!(chain().gradus(&["lineage", "count[unit=c]", "--as", "mermaid"]));
}

#[test]
fn what_stages_ran_on_is_told() {
    let project = Project::new(
        "
        stages:
          rows: { kind: data.load, with: { path: rows.jsonl, format: text, limit: 5, seed: 3 } }
    ",
    );
    project.write("rows.jsonl", "{}");
    project.events(&[]);
    let found = project.gradus(&["lineage", "rows.train", "--format", "json"]).json();
    let action = &found["actions"][0];
    assert_eq!(action["made"]["libtorch"], "2.11.0");
    assert_eq!(action["made"]["device"], "cpu");
    assert_eq!(action["sources"][0]["file"], "rows.jsonl");
    let text = project.gradus(&["lineage", "rows.train"]).stdout;
    assert!(text.contains("format \"text\", limit 5"), "{text}");
    assert!(text.contains("path: file rows.jsonl  6e46dd10"), "{text}");
}

#[test]
fn what_the_cache_has_lost_ends_a_branch() {
    let project = chain();
    for file in project.files_below(".gradus/actions") {
        if fs::read_to_string(&file).unwrap().contains("\"stage\":\"make\",\"device\"") {
            fs::remove_file(file).unwrap();
        }
    }
    assert_snapshot!(project.gradus(&["lineage", "pair"]));
}

#[test]
fn what_nothing_made_is_told_apart() {
    let project = chain();
    project.write("other.txt", "b");
    assert_snapshot!(project.gradus(&["lineage", "list.txt"]));
    assert_snapshot!(project.gradus(&["lineage", "other.txt"]));
    assert_snapshot!(project.gradus(&["lineage", "make"]));
    assert_snapshot!(project.gradus(&["lineage", "make.txt"]));
    assert_snapshot!(project.gradus(&["lineage", "cafe"]));
    assert_snapshot!(project.gradus(&["lineage", "maek.text"]));
}
