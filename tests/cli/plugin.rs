//! Workers that are not gradus' own: the example in Python, and what `gradus.toml` may say wrong.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{fs, path::Path, process::Command};

use insta::assert_snapshot;

use crate::support::Project;

const PAIRS: &str = r#"{"chosen": "two words", "rejected": "one"}
{"chosen": "one", "rejected": "a few more words"}
{"chosen": "three words here", "rejected": "two words"}
{"chosen": "one", "rejected": "word"}
"#;

/// A project with the example of `pipelines/plugin` and these pairs; `None` without Python.
fn example() -> Option<Project> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 here");
        return None;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/plugin");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let project = Project::new(&read("length_bias.yaml"));
    for name in ["gradus.toml", "length_bias.py", "length_bias.json"] {
        project.write(name, read(name));
    }
    project.write("pairs.jsonl", PAIRS);
    Some(project)
}

fn change(project: &Project, name: &str, from: &str, to: &str) {
    let text = project.read(name);
    assert!(text.contains(from));
    project.write(name, text.replace(from, to));
}

#[test]
fn a_kind_of_the_projects_own_worker_runs_and_is_cached() {
    let Some(project) = example() else { return };
    let events = project.events(&[]);
    let by_words = events.of("finished").find(|it| it["stage"] == "bias[unit=words]").unwrap();
    // Two of four are longer, one is as long: (2 + 1/2) / 4.
    assert_eq!(by_words["metrics"]["longer_is_chosen"], 0.625);
    assert_eq!(
        project.read(".gradus/outputs/length-bias/bias[unit=words].table.csv"),
        "\
chosen_minus_rejected_in_words,pairs\n-3,1\n0,1\n1,2\n"
    );
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

#[test]
fn a_program_that_changed_runs_again_and_is_named() {
    let Some(project) = example() else { return };
    project.events(&[]);
    change(&project, "length_bias.py", "1.959964", "1.96");
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
}

#[test]
fn a_program_that_changes_under_a_run_is_started_again() {
    let Some(project) = example() else { return };
    project.pipeline(
        r#"
        stages:
          one: { kind: preferences.length_bias, inputs: { preferences: pairs.jsonl } }
          edit:
            kind: exec
            cache: false
            inputs: { after: one }
            outputs: { pairs: { path: pairs, type: preferences } }
            with:
              shell: 'sed -i s/_in_/_measured_in_/ "$PROJECT/length_bias.py"; cp "$PROJECT/pairs.jsonl" pairs'
              env: { PROJECT: "${env.HOME}" }
          two: { kind: preferences.length_bias, inputs: { preferences: edit } }
        env: [HOME]
        "#,
    );
    assert_eq!(project.events(&["--slots", "1"]).code, Some(0));
    let table = project.read(".gradus/outputs/p/two.table.csv");
    assert!(table.starts_with("chosen_minus_rejected_measured_in_words"), "{table}");
}

#[test]
fn without_a_source_all_that_needs_no_worker_goes_on() {
    let Some(project) = example() else { return };
    project.events(&[]);
    fs::remove_file(project.path("length_bias.py")).unwrap();
    for command in [&["runs"][..], &["sweep"], &["cache", "verify"]] {
        assert_eq!(project.gradus(command).code, Some(0), "{command:?}");
    }
    let doctor = project.gradus(&["doctor"]);
    assert!(doctor.stdout.contains("its source `length_bias.py` is not there"), "{doctor}");
    assert_eq!(project.gradus(&["check", "p.yaml"]).code, Some(2));
}

#[test]
fn the_example_gives_what_its_snapshots_hold() {
    let Some(project) = example() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/plugin");
    for name in ["length_bias.yaml", "pairs.jsonl"] {
        project.write(name, fs::read(folder.join(name)).unwrap());
    }
    for snapshot in fs::read_dir(folder.join("snapshots")).unwrap().flatten() {
        let name = snapshot.file_name().into_string().unwrap();
        project.write(&format!("snapshots/{name}"), fs::read(snapshot.path()).unwrap());
    }
    let tested = project.gradus(&["test", "length_bias.yaml"]);
    assert_eq!(tested.code, Some(0), "{tested}");
    project.write("pairs.jsonl", PAIRS);
    assert_eq!(project.gradus(&["test", "length_bias.yaml"]).code, Some(1));
}

#[test]
fn its_kinds_are_listed_explained_and_completed() {
    let Some(project) = example() else { return };
    let listed = project.gradus(&["stages"]).stdout;
    assert!(listed.contains("preferences.length_bias"), "{listed}");
    assert_snapshot!(project.gradus(&["stages", "show", "preferences.length_bias"]));
    let schema = project.gradus(&["schema"]).stdout;
    assert!(schema.contains("Measure how often the preferred reply is the longer one."));
}

#[test]
fn the_doctor_starts_it() {
    let Some(project) = example() else { return };
    let row = || {
        let report = project.gradus(&["doctor"]).stdout;
        report.lines().find(|line| line.contains("length_bias")).unwrap().to_owned()
    };
    assert_snapshot!(row(), @"✓ worker `length_bias`  brings preferences.length_bias");
    change(&project, "length_bias.py", "import struct\n", "");
    assert_snapshot!(row(), @"✗ worker `length_bias`  the worker `length_bias` ended with exit code 1; its last line is `NameError: name 'struct' is not defined`");
}

#[test]
fn what_the_worker_refuses_is_the_stages_failure() {
    let Some(project) = example() else { return };
    project.write("pairs.jsonl", "{\"chosen\": 1}\n");
    let events = project.events(&["bias[unit=words]"]);
    assert_eq!(events.code, Some(1));
    assert_eq!(events.failure("bias[unit=words]"), "line 1 has no texts `chosen` and `rejected`");
}

#[test]
fn a_worker_that_shows_other_kinds_than_its_file_is_refused() {
    let Some(project) = example() else { return };
    change(&project, "length_bias.json", "\"revision\": 1", "\"revision\": 2");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "bias[unit=words]"]));
}

#[test]
fn a_worker_of_another_version_is_refused() {
    let Some(project) = example() else { return };
    change(&project, "length_bias.py", "PROTOCOL = 6", "PROTOCOL = 1");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "bias[unit=words]"]));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let Some(project) = example() else { return };
    change(&project, "gradus.toml", "\"python3\"", "\"./no-such-python\"");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "bias[unit=words]"]));
}

/// What a check says where `gradus.toml` has this worker, and `kinds.json` these kinds.
fn check(worker: &str, kinds: &str) -> String {
    let project = Project::new("stages: {}");
    project.write("gradus.toml", format!("[workers.mine]\n{worker}\n"));
    project.write("kinds.json", format!("{{ \"kinds\": [{kinds}] }}"));
    let complaints = project.gradus(&["check", "p.yaml"]).stderr;
    complaints.replace(project.path("").to_str().unwrap(), "[project]/")
}

fn kind(name: &str, outputs: &str) -> String {
    format!(
        r#"{{ "kind": "{name}", "revision": 1, "doc": "", "uses_device": false,
              "params": [], "inputs": [], "outputs": [{outputs}] }}"#
    )
}

const WORKER: &str = "command = ['mine']\ncatalog = 'kinds.json'";
const OUTPUT: &str = r#"{ "name": "out", "doc": "", "type": { "is": ["file"] } }"#;

#[test]
fn a_sound_worker_is_not_started_by_a_check() {
    assert_eq!(check(WORKER, &kind("my.kind", OUTPUT)), "");
}

#[test]
fn every_mistake_about_a_worker_names_it() {
    let whole = |worker: &str| check(worker, &kind("my.kind", OUTPUT));
    let kinds = |kinds: &str| check(WORKER, kinds);
    let same_as = r#"{ "name": "out", "doc": "", "type": { "same_as": { "input": "in" } } }"#;
    let all = [
        whole("command = []\ncatalog = 'kinds.json'"),
        whole("command = ['mine']\ncatalog = 'none.json'"),
        whole("command = ['mine']\ncatalog = 'gradus.toml'"),
        whole("command = ['mine']\ncatalog = 'kinds.json'\nsources = ['none.py']"),
        whole("command = ['mine']\ncatalogue = 'kinds.json'"),
        kinds(&kind("mine", OUTPUT)),
        kinds(&kind("my.kind", "")),
        kinds(&kind("my.kind", &OUTPUT.replace("out", "o u t"))),
        kinds(&kind("my.kind", &format!("{OUTPUT}, {OUTPUT}"))),
        kinds(&kind("my.kind", same_as)),
        kinds(&kind("train.sft", OUTPUT)),
    ];
    assert_snapshot!(all.join("\n"));
}
