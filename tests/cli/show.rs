//! `gradus show` and `gradus logs`: what the last run left.

use std::fs;

use insta::{assert_json_snapshot, assert_snapshot};

use crate::support::Project;

const TWO: &str = "
    name: two
    stages:
      rows: { kind: data.synthetic, with: { task: reviews } }
      split: { kind: data.split, matrix: { test: [0.1, 0.2] }, inputs: { rows: rows.prompts }, with: { test: '${matrix.test}' } }
      shout: { kind: exec, with: { shell: 'echo loud; echo louder >&2; exit 1' } }
";

fn run() -> Project {
    let mut project = Project::new(TWO);
    project.set("FAKE_WORKER", "data.synthetic=report");
    assert_eq!(project.gradus(&["run", "p.yaml", "--keep-going"]).code, Some(1));
    project
}

#[test]
fn a_run_is_shown_stage_by_stage() {
    assert_snapshot!(run().gradus(&["show", "p.yaml"]));
}

#[test]
fn a_run_is_a_value_for_programs() {
    let record = run().gradus(&["show", "p.yaml", "--format", "json"]).json();
    let word = |stage: usize| record["stages"][stage]["status"].as_str().unwrap().to_owned();
    let words: Vec<_> = (0..4).map(word).collect();
    assert_eq!(words, ["finished", "finished", "finished", "failed"]);
    assert_eq!(record["stages"][0]["metrics"]["accuracy"], 0.75);
    assert_eq!(record["outcome"], "failed");
}

#[test]
fn a_stage_is_shown_with_where_its_outputs_lie() {
    assert_snapshot!(run().gradus(&["show", "p.yaml", "rows"]));
}

#[test]
fn all_variants_of_a_stage_are_shown() {
    let shown = run().gradus(&["show", "p.yaml", "split", "--format", "json"]).json();
    assert_eq!(shown[0]["stage"], "split[test=0.1]");
    assert_eq!(shown[1]["stage"], "split[test=0.2]");
}

#[test]
fn a_stage_that_did_not_run_is_not_shown() {
    assert_snapshot!(run().gradus(&["show", "p.yaml", "none"]));
}

#[test]
fn before_the_first_run_there_is_nothing_to_show() {
    assert_snapshot!(Project::new(TWO).gradus(&["show", "p.yaml"]));
}

#[test]
fn a_log_holds_both_streams() {
    let log = run().gradus(&["logs", "p.yaml", "shout"]);
    let mut lines: Vec<_> = log.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["loud", "louder"]);
}

#[test]
fn a_workers_log_is_kept_for_its_stage() {
    let project = run();
    assert_eq!(project.gradus(&["logs", "p.yaml", "rows"]).stdout, "data.synthetic begins\n");
    let log = project.gradus(&["logs", "p.yaml", "split[test=0.2]", "--format", "json"]);
    assert_eq!(log.json()["log"], "data.split begins\n");
}

#[test]
fn a_stage_without_a_log_is_told_apart_from_none() {
    let project = run();
    assert_snapshot!(project.gradus(&["logs", "p.yaml", "split"]));
    assert_snapshot!(project.gradus(&["logs", "p.yaml", "shuot"]));
    assert_snapshot!(Project::new(TWO).gradus(&["logs", "p.yaml", "shout"]));
}

// Curves.

#[test]
fn a_metric_is_drawn_over_its_steps() {
    let project = run();
    assert_snapshot!(project.gradus(&["show", "p.yaml", "rows", "--plot", "loss"]));
    let plot = ["show", "p.yaml", "rows", "--plot", "loss", "--format", "json"];
    assert_json_snapshot!(project.gradus(&plot).json());
}

#[test]
fn of_a_cached_stage_the_run_that_made_it_has_the_curve() {
    let project = run();
    project.gradus(&["run", "p.yaml", "rows"]);
    let plot =
        ["show", "p.yaml", "rows", "--plot", "loss", "--svg", "loss.svg", "--png", "loss.png"];
    let drawn = project.gradus(&plot);
    assert_eq!(drawn.code, Some(0), "{drawn}");
    assert!(drawn.stdout.ends_with("→ loss.svg\n→ loss.png\n"), "{drawn}");
    assert!(project.read("loss.svg").starts_with("<svg "));
    assert!(fs::read(project.path("loss.png")).unwrap().starts_with(b"\x89PNG"));
    fs::remove_dir_all(project.path(".gradus/runs")).unwrap();
    project.gradus(&["run", "p.yaml", "rows"]);
    // Its events are gone, and it has no output of metrics.
    assert_snapshot!(project.gradus(&["show", "p.yaml", "rows", "--plot", "loss"]));
}

#[test]
fn variants_of_a_stage_are_drawn_together_from_their_metrics_output() {
    let mut project = Project::new(
        "
        stages:
          fit:
            kind: exec
            matrix: { rate: [1, 2] }
            outputs: { curve: { path: curve.jsonl, type: metrics } }
            with:
              env: { RATE: '${matrix.rate}' }
              shell: >
                for i in 1 2 3 4; do echo \"{\\\"step\\\": $i, \\\"loss\\\": $((i * RATE))}\"; done > curve.jsonl
    ",
    );
    project.set("FAKE_WORKER", "");
    project.gradus(&["run", "p.yaml"]);
    assert_snapshot!(project.gradus(&["show", "p.yaml", "fit", "--plot", "loss"]));
    assert_snapshot!(project.gradus(&["show", "p.yaml", "fit", "--plot", "los"]));
}

#[test]
fn an_earlier_run_is_shown_by_its_name() {
    let project = run();
    project.gradus(&["run", "p.yaml", "rows"]);
    let last = project.gradus(&["show", "p.yaml", "--run", "last", "--format", "json"]).json();
    assert_eq!(last["stages"].as_array().unwrap().len(), 1);
    let first = project.gradus(&["show", "p.yaml", "--run", "last~1", "--format", "json"]).json();
    assert_eq!(first["stages"].as_array().unwrap().len(), 4);
    assert_snapshot!(project.gradus(&["show", "p.yaml", "--run", "1999"]));
}

#[test]
fn several_metrics_and_runs_are_drawn_together() {
    let project = run();
    project.gradus(&["run", "p.yaml", "rows", "--force"]);
    let plot = ["show", "p.yaml", "rows", "--plot", "loss", "--run", "last", "--run", "last~1"];
    let drawn = project.gradus(&[&plot[..], &["--format", "json"]].concat()).json();
    let curves = drawn["curves"].as_array().unwrap().clone();
    assert_eq!(curves.len(), 2);
    assert_ne!(curves[0]["run"], curves[1]["run"]);
    assert_eq!(curves[0]["points"], curves[1]["points"]);
    let text = project.gradus(&plot);
    assert!(text.stdout.contains(curves[1]["run"].as_str().unwrap()), "{text}");
    let several = project.gradus(&["show", "p.yaml", "--run", "last", "--run", "last~1"]);
    assert!(several.code == Some(1) && several.stderr.contains("gradus diff"), "{several}");
    let unknown = project.gradus(&["show", "p.yaml", "rows", "--plot", "loss,nothing"]);
    assert!(unknown.stderr.contains("no metric `nothing`"), "{unknown}");
}

#[test]
fn what_a_kind_says_to_numbers_stands_beside_them() {
    let mut project = Project::new(
        "
        stages:
          pairs: { kind: data.synthetic, with: { task: reviews, preferences: 9 } }
          bytes: { kind: data.tokenizer, inputs: { rows: pairs.preferences_train } }
          fresh: { kind: model.init, inputs: { tokenizer: bytes } }
          rm: { kind: feedback.reward_model, inputs: { model: fresh, preferences: pairs.preferences_train }, with: { learning_rate: 1e-3 } }
    ",
    );
    project.set("FAKE_WORKER", "feedback.reward_model=tell test_accuracy_low 0.4375");
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
    // From the cache it says the same.
    let again = project.gradus(&["run", "p.yaml"]);
    assert!(again.stderr.contains("may be no better than a coin (from 0.438 on)"), "{again}");
    let shown = project.gradus(&["show", "p.yaml", "rm"]);
    assert!(shown.stdout.contains("! on held-out rows it may be no better"), "{shown}");
}
