//! Stages that run in a worker, and every way in which a worker can disappoint.

use insta::assert_snapshot;

use crate::support::{Events, Project};

const CHAIN: &str = "
    name: chain
    params: { test: 0.1 }
    stages:
      rows: { kind: data.synthetic, with: { task: reviews } }
      split: { kind: data.split, inputs: { rows: rows.prompts }, with: { test: '${params.test}' } }
      tokenizer: { kind: data.tokenizer, inputs: { rows: rows } }
";

fn with_worker(behaviour: &str) -> Project {
    let mut project = Project::new(CHAIN);
    project.set("FAKE_WORKER", behaviour);
    project
}

/// Runs the chain with one slot and a worker that misbehaves.
fn run(behaviour: &str) -> Events {
    with_worker(behaviour).events(&["--slots", "1", "--keep-going"])
}

#[test]
fn stages_run_in_a_worker_and_are_cached() {
    let project = with_worker("");
    assert_eq!(project.events(&[]).ran(), ["rows", "split", "tokenizer"]);
    assert_eq!(project.events(&[]).ran(), [""; 0]);
    assert_eq!(project.events(&["--set", "test=0.2"]).ran(), ["split"]);
    // Written out or not, a default is the same; so is 1 for 1.0.
    project
        .pipeline(&CHAIN.replace("task: reviews", "task: reviews, w_topic: 1, label_noise: 0.2"));
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

#[test]
fn one_worker_serves_stage_after_stage() {
    let events = run("data.synthetic=process;data.split=process;data.tokenizer=process");
    let ids: Vec<_> = events.of("metric").map(|it| it["value"].as_f64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.to_bits() == ids[0].to_bits()), "{ids:?}");
}

#[test]
fn progress_and_metrics_are_passed_on() {
    let project = with_worker("data.split=report");
    let ran = project.gradus(&["run", "p.yaml", "split", "--slots", "1", "--format", "json"]);
    let of_split = ran.stdout.lines().filter(|line| line.contains(r#""stage":"split""#));
    assert_snapshot!(of_split.collect::<Vec<_>>().join("\n"));
    assert_snapshot!(project.gradus(&["show", "p.yaml"]));
}

#[test]
fn metrics_stay_with_what_is_cached() {
    let project = with_worker("data.split=report");
    project.events(&[]);
    assert_snapshot!(project.gradus(&["run", "p.yaml", "split", "--slots", "1"]));
}

#[test]
fn a_stage_that_fails_says_why_and_leaves_the_worker_to_others() {
    let behaviour =
        "data.synthetic=process;data.split=fail no row has a prompt;data.tokenizer=process";
    let events = run(behaviour);
    assert_eq!(events.code, Some(1));
    assert_eq!(events.failure("split"), "no row has a prompt");
    let ids: Vec<_> = events.of("metric").map(|it| &it["value"]).collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_crash_costs_one_stage_and_one_worker() {
    let events =
        run("data.synthetic=process;data.split=crash out of memory;data.tokenizer=process");
    assert_eq!(events.failure("split"), "out of memory");
    assert_eq!(events.ran(), ["rows", "tokenizer"]);
    let ids: Vec<_> = events.of("metric").map(|it| &it["value"]).collect();
    // The two that need only the rows come in either order.
    let behind_the_crash = events.stages("started") == ["rows", "split", "tokenizer"];
    assert_eq!(ids[0] != ids[1], behind_the_crash);
}

#[test]
fn a_worker_that_dies_is_quoted() {
    let project = with_worker("data.split=exit 3");
    let ran = project.gradus(&["run", "p.yaml", "split"]);
    assert_snapshot!(ran);
}

#[test]
fn a_worker_that_is_killed_says_what_that_may_mean() {
    let events = run("data.split=signal KILL");
    assert_snapshot!(events.failure("split"), @"the worker ended by signal 9: the system kills a process like that when memory runs out");
    assert_eq!(events.ran(), ["rows", "tokenizer"]);
    assert_snapshot!(run("data.split=signal SEGV").failure("split"), @"the worker ended by signal 11: a crash in native code");
}

#[test]
fn a_worker_that_prints_among_its_frames_is_stopped() {
    let events = run("data.split=print Warning: something");
    assert_snapshot!(events.failure("split"), @"the worker broke the protocol (a frame of 1852989783 bytes is over the limit of 16777216: something else wrote to the stream) and was killed");
    assert_eq!(events.ran(), ["rows", "tokenizer"]);
}

#[test]
fn a_worker_of_another_version_is_refused() {
    let project = with_worker("hello=other version");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "split"]));
}

#[test]
fn a_worker_with_other_kinds_is_refused() {
    let project = with_worker("hello=other catalogue");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "split"]));
}

#[test]
fn a_worker_on_another_device_is_refused() {
    let ran = with_worker("hello=other device").gradus(&["run", "p.yaml"]);
    assert!(ran.stderr.contains("the worker opened `cuda Fake GPU`"), "{ran}");
}

#[test]
fn a_worker_that_cannot_start_is_quoted() {
    let project = with_worker("hello=exit 127");
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let mut project = with_worker("");
    project.set("GRADUS_WORKER", "nowhere/gradus-worker");
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
}

#[test]
fn an_output_that_a_kind_leaves_out_is_an_error() {
    let events = run("data.split=omit test");
    assert_snapshot!(events.failure("split"), @"`data.split` ended without its output `test`");
}

#[test]
fn a_plan_needs_no_worker() {
    let mut project = with_worker("");
    project.events(&[]);
    project.set("GRADUS_WORKER", "nowhere/gradus-worker");
    assert_eq!(project.gradus(&["plan", "p.yaml"]).code, Some(0));
    assert_eq!(project.events(&[]).code, Some(0));
}

#[test]
fn a_fan_in_brings_every_variant_under_its_name() {
    let project = Project::new(
        "
        params: { betas: [0.1, 0.5] }
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: rows } }
          base: { kind: model.init, inputs: { tokenizer: tokenizer } }
          dpo:
            kind: policy.dpo
            matrix: { beta: '${params.betas}' }
            inputs: { policy: base, preferences: rows.preferences_train }
            with: { learning_rate: 1e-4, beta: '${matrix.beta}' }
          score:
            kind: evaluate.policy
            matrix: { beta: '${params.betas}' }
            inputs: { policy: 'dpo[beta=${matrix.beta}]', prompts: rows.prompts }
            with: { max_new_tokens: 4 }
          compare: { kind: evaluate.compare, inputs: { candidates: 'score[*]' } }
    ",
    );
    let ran = project.gradus(&["run", "p.yaml", "--slots", "1"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let reads: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("reads")).collect();
    assert!(reads[0].starts_with("reads score[beta=0.1] "), "{ran}");
    assert!(reads[1].starts_with("reads score[beta=0.5] "), "{ran}");
    assert!(project.read(".gradus/outputs/p/compare.report.md").contains("reads score[beta=0.1]"));
    let events = project.events(&["--set", "betas=[0.1, 0.5, 0.9]"]);
    assert_eq!(events.ran(), ["compare", "dpo[beta=0.9]", "score[beta=0.9]"]);
}
