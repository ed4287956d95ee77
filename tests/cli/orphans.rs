//! Nothing that a run has started outlives it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::Project;

const RUN: [&str; 4] = ["run", "p.yaml", "--format", "json"];

fn wait_until_alone(project: &Project) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while project.processes() > 0 {
        assert!(Instant::now() < deadline, "{} processes live on", project.processes());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_and_what_it_started_die_with_a_killed_engine() {
    let project = Project::new(
        "
        stages:
          slow: { kind: exec, outputs: { a: a }, with: { shell: '(sleep 60; true) & touch \"$HOME/begun\"; sleep 60' } }
    ",
    );
    let run = project.start(&RUN);
    // gradus, its guard, two shells and two sleeps.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !project.path("begun").exists() || project.processes() < 5 {
        assert!(Instant::now() < deadline, "only {} processes", project.processes());
        sleep(Duration::from_millis(5));
    }
    run.signal("KILL");
    wait_until_alone(&project);
    assert_eq!(run.wait().code, None);
}

#[test]
fn a_worker_that_hears_nothing_dies_with_a_killed_engine() {
    let mut project = Project::new(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          split: { kind: data.split, inputs: { rows: rows.prompts } }
    ",
    );
    project.set("FAKE_WORKER", "data.split=deaf");
    let mut run = project.start(&RUN);
    run.wait_for("hears nothing");
    run.signal("KILL");
    wait_until_alone(&project);
}

#[test]
fn after_a_run_nothing_is_left() {
    let project = Project::new(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          left: { kind: exec, outputs: { a: a }, with: { shell: 'sleep 60 & touch a' } }
    ",
    );
    assert_eq!(project.events(&[]).code, Some(0));
    wait_until_alone(&project);
}

#[test]
fn a_child_that_outlives_its_program_changes_nothing_that_was_taken_in() {
    let project = Project::new(
        "
        stages:
          make: { kind: exec, outputs: { o: o, p: p }, with: { shell: 'echo whole > o; setsid sh -c \"exec >> o 2>&1; sleep 1; echo more\" & setsid sh -c \"for i in $(seq 200); do echo late >> p; sleep 0.01; done\" > /dev/null 2>&1 & sleep 0.5; echo whole > p' } }
          wait: { kind: exec, inputs: { a: make.o }, outputs: { o: o }, with: { shell: 'sleep 2; cat inputs/a > o' } }
          use: { kind: exec, inputs: { a: make.o, b: wait, c: make.p }, outputs: { o: o }, with: { shell: 'cat inputs/a inputs/b > o; head -n 1 inputs/c >> o' } }
    ",
    );
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(project.read(".gradus/outputs/p/use.o"), "whole\nwhole\nwhole\n");
    let verified = project.gradus(&["cache", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified}");
}

#[test]
fn an_output_is_what_it_is_declared_as() {
    let project = Project::new(
        "
        stages:
          a: { kind: exec, outputs: { o: o }, with: { shell: 'mkdir o' } }
          b: { kind: exec, outputs: { o: o/ }, with: { shell: 'echo > o' } }
    ",
    );
    let events = project.events(&["--keep-going"]);
    assert!(events.failure("a").contains("declared as a file"), "{}", events.failure("a"));
    assert!(events.failure("b").contains("declared as a folder"), "{}", events.failure("b"));
}
