//! `gradus plan`: what is cached, what would run and why, and what cannot be known yet.

use std::fs;

use insta::assert_snapshot;

use crate::support::Project;

const CHAIN: &str = "
    params: { word: one }
    stages:
      make:
        kind: exec
        outputs: { text: text }
        with: { shell: 'printf %s \"$WORD\" > text', env: { WORD: '${params.word}' } }
      count:
        kind: exec
        inputs: { text: make }
        outputs: { size: size }
        with: { shell: 'wc -c < inputs/text > size' }
      read:
        kind: data.load
        with: { path: rows.jsonl, format: text, limit: 5 }
";

fn chain() -> Project {
    let project = Project::new(CHAIN);
    project.write("rows.jsonl", "{}");
    project
}

#[test]
fn before_the_first_run_nothing_is_cached() {
    assert_snapshot!(chain().gradus(&["plan", "p.yaml"]));
}

#[test]
fn after_a_run_everything_is_cached() {
    let project = chain();
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
}

#[test]
fn a_change_is_named_and_what_is_behind_it_is_unknown() {
    let project = chain();
    project.gradus(&["run", "p.yaml"]);
    project.write("rows.jsonl", "{\"text\": 1}");
    project.pipeline(&CHAIN.replace("limit: 5", "limit: 6"));
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "--set", "word=two"]));
}

#[test]
fn a_plan_for_programs_holds_states_and_reasons() {
    let project = chain();
    project.gradus(&["run", "p.yaml", "make"]);
    project.pipeline(&CHAIN.replace("wc -c", "wc"));
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "--set", "word=two", "--format", "json"]));
}

#[test]
fn a_plan_for_one_stage_shows_what_it_needs() {
    assert_snapshot!(chain().gradus(&["plan", "p.yaml", "count"]));
}

#[test]
fn a_plan_runs_nothing() {
    let project = chain();
    project.gradus(&["plan", "p.yaml"]);
    assert_eq!(project.files_below(".gradus/blobs"), [""; 0].map(std::path::PathBuf::from));
    assert!(!project.path(".gradus/runs").exists());
}

#[test]
fn settings_win_over_files_of_parameters_and_these_over_the_pipeline() {
    let project = chain();
    project.write("two.yaml", "word: two");
    project.write("three.yaml", "word: three");
    let word = |arguments: &[&str]| {
        let ran = project.gradus(&[&["run", "p.yaml", "make"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran}");
        let export = ["export", "p.yaml", "make", "out"];
        assert_eq!(project.gradus(&[&export, arguments].concat()).code, Some(0));
        let word = project.read("out/text");
        fs::remove_dir_all(project.path("out")).unwrap();
        word
    };
    assert_eq!(word(&[]), "one");
    assert_eq!(word(&["--params", "two.yaml"]), "two");
    assert_eq!(word(&["--params", "two.yaml", "--params", "three.yaml"]), "three");
    assert_eq!(word(&["--set", "word=four", "--params", "two.yaml"]), "four");
    // Everything behind the first `=` is the value, and it is YAML.
    assert_eq!(word(&["--set", "word=five="]), "five=");
    assert_eq!(word(&["--set", "word="]), "");
    assert_eq!(word(&["--set", "word='5'"]), "5");
}

#[test]
fn the_cache_can_be_elsewhere() {
    let project = chain();
    project.write("gradus.toml", "cache = 'kept/here'");
    project.gradus(&["run", "p.yaml", "make"]);
    assert!(project.path("kept/here/blobs").is_dir());
    project.gradus(&["run", "p.yaml", "make", "--cache", "there"]);
    assert!(project.path("there/blobs").is_dir());
    assert!(!project.path(".gradus").exists());
}

#[test]
fn a_project_file_that_cannot_be_read_is_shown() {
    let project = chain();
    project.write("gradus.toml", "cahce = 'x'");
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
}

#[test]
fn a_cache_of_another_version_is_left_alone() {
    let project = chain();
    project.write(".gradus/format", "gradus cache 9\n");
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
}

#[test]
fn a_device_that_is_not_here_is_an_error_of_gradus_own() {
    let mut project = chain();
    project.set("CUDA_VISIBLE_DEVICES", "");
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "--device", "cuda"]));
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "--device", "tpu"]));
}

#[test]
fn files_and_inputs_are_named_with_where_they_come_from() {
    let project = Project::new(
        "
        params: { word: one, seed: 0 }
        stages:
          make:
            kind: exec
            outputs: { text: text }
            with: { shell: 'printf %s \"$WORD\" > text', env: { WORD: '${params.word}' } }
          same:
            kind: exec
            inputs: { text: make, list: list.txt }
            outputs: { size: size }
            with: { shell: 'cat inputs/* > size' }
          read:
            kind: data.load
            with: { path: data/rows.jsonl, format: text, seed: '${params.seed}' }
    ",
    );
    project.write("list.txt", "a");
    project.write("data/rows.jsonl", "{}");
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["run", "p.yaml", "make", "--set", "word=two"]);
    project.write("list.txt", "b");
    project.write("data/rows.jsonl", "{\"text\": 1}");
    let set = ["--set", "word=two", "--set", "seed=1"];
    assert_snapshot!(project.gradus(&[&["plan", "p.yaml"], &set[..]].concat()));
    // One by one: stages that do not wait for each other begin in any order.
    assert_snapshot!(project.gradus(&[&["run", "p.yaml", "same"], &set[..]].concat()));
    assert_snapshot!(project.gradus(&[&["run", "p.yaml", "read"], &set[..]].concat()));
}

#[test]
fn a_result_that_is_gone_and_a_stage_that_is_forced_are_told_apart() {
    let project = chain();
    project.gradus(&["run", "p.yaml"]);
    assert_snapshot!(project.gradus(&["run", "p.yaml", "make", "--force"]));
    fs::remove_dir_all(project.path(".gradus/actions")).unwrap();
    let plan = project.gradus(&["plan", "p.yaml", "make", "--format", "json"]).json();
    assert_eq!(plan["stages"][0]["cause"], "result_gone");
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "make"]));
}

#[test]
fn a_plan_tells_how_long_it_took_before_and_a_run_may_be_held_to_a_time() {
    let project = Project::new(
        "
        params: { word: one }
        stages:
          slow: { kind: exec, matrix: { i: [1, 2] }, outputs: { o: o }, with: { shell: 'sleep 0.8; echo > o', env: { W: '${params.word}${matrix.i}' } } }
          last: { kind: exec, inputs: { o: 'slow[i=1]' }, outputs: { o: o }, with: { shell: 'sleep 0.4; echo > o', env: { W: '${params.word}' } } }
    ",
    );
    let plan = |words: &[&str]| project.gradus(&[&["plan", "p.yaml"], words].concat());
    let estimate =
        |words: &[&str]| plan(&[words, &["--format", "json"]].concat()).json()["estimate"].clone();
    assert_eq!(estimate(&[])["unknown"].as_array().unwrap().len(), 3);
    assert_eq!(project.gradus(&["run", "p.yaml", "--at-most", "1s"]).code, Some(0));
    assert!(estimate(&[]).is_null());
    let again = ["--set", "word=two"];
    assert!(plan(&again).stdout.contains("from what these stages took before\n"));
    let seconds = estimate(&again)["seconds"].as_f64().unwrap();
    // Two at once or one after the other, and the last behind them.
    assert!((1.2..6.0).contains(&seconds), "{seconds}");
    let ran = project.gradus(&["run", "p.yaml", "--at-most", "1s", "--set", "word=two"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("and `--at-most` allows 1.0 s"), "{ran}");
    assert_eq!(
        project.gradus(&["run", "p.yaml", "--at-most", "1h", "--set", "word=two"]).code,
        Some(0)
    );
    assert_eq!(project.gradus(&["run", "p.yaml", "--at-most", "soon"]).code, Some(2));
}

const FROZEN: &str = "
    params: { word: one }
    stages:
      make:
        # Behind a comment.
        kind: exec
        outputs: { o: o }
        with: { shell: 'echo $W > o', env: { W: '${params.word}' } }
      flow: { kind: exec, matrix: { i: [1, 2] }, inputs: { a: make }, outputs: { o: o }, with: { shell: 'cat inputs/a > o', env: { W: '${params.word}${matrix.i}' } } }
";

#[test]
fn a_frozen_stage_keeps_its_result_and_the_plan_says_why_it_would_run() {
    let project = Project::new(FROZEN);
    let written = project.read("p.yaml");
    assert_eq!(project.gradus(&["freeze", "p.yaml", "make"]).code, Some(1), "nothing to keep yet");
    project.gradus(&["run", "p.yaml"]);
    for stage in ["make", "flow[i=2]", "flow[i=1]"] {
        let frozen = project.gradus(&["freeze", "p.yaml", stage]);
        assert_eq!(frozen.code, Some(0), "{frozen}");
    }
    let text = project.read("p.yaml");
    assert_eq!(text.matches("frozen: ").count(), 2, "{text}");
    assert!(text.contains("# Behind a comment.\n    frozen: "), "{text}");
    let other = ["--set", "word=two"];
    let plan = project.gradus(&[&["plan", "p.yaml"], &other[..]].concat()).stdout;
    assert!(
        plan.contains("frozen; else it would run because of env.W \"one\" → \"two\""),
        "{plan}"
    );
    assert_eq!(plan.matches("cached").count(), 3, "{plan}");
    assert_eq!(project.events(&other).ran(), [""; 0]);
    assert_eq!(project.events(&["--force"]).ran(), [""; 0]);
    for stage in ["make", "flow"] {
        assert_eq!(project.gradus(&["freeze", "p.yaml", stage, "--thaw"]).code, Some(0));
    }
    assert_eq!(project.read("p.yaml"), written);
    assert_eq!(project.events(&other).ran().len(), 3);
}

#[test]
fn a_frozen_result_that_is_gone_is_said_and_nothing_is_computed_in_its_place() {
    let project = Project::new(FROZEN);
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["freeze", "p.yaml", "make"]);
    fs::remove_dir_all(project.path(".gradus/actions")).unwrap();
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("it is frozen to the result"), "{ran}");
    project.write("p.yaml", project.read("p.yaml").replace("frozen: ", "frozen: x"));
    let ran = project.gradus(&["check", "p.yaml"]);
    assert!(ran.stderr.contains("a result as `gradus freeze` writes it"), "{ran}");
}
