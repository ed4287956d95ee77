//! Stages that fail: what is said, and what goes on.

use std::{fs, os::unix::fs::PermissionsExt};

use insta::assert_snapshot;

use crate::support::Project;

const FAILING: &str = "
    stages:
      bad:
        kind: exec
        outputs: { a: a }
        with: { shell: '(echo working; echo broken pipe dream) >&2; exit 3' }
      behind: { kind: exec, inputs: { a: bad }, with: { command: ['true'] } }
      good: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } }
      after: { kind: exec, inputs: { a: good }, with: { command: ['true'] } }
";

#[test]
fn a_failure_shows_the_end_of_the_log_and_what_was_skipped() {
    let project = Project::new(FAILING);
    assert_snapshot!(project.gradus(&["run", "p.yaml", "behind"]));
}

#[test]
fn with_keep_going_only_what_depends_on_the_failure_is_skipped() {
    let project = Project::new(FAILING);
    let events = project.events(&["--keep-going"]);
    assert_eq!(events.code, Some(1));
    assert_eq!(events.ran(), ["after", "good"]);
    assert_eq!(events.stages("skipped"), ["behind"]);
    assert_eq!(events.list.last().unwrap()["outcome"], "failed");
}

#[test]
fn a_failure_is_not_remembered() {
    let project = Project::new(FAILING);
    project.events(&["--keep-going"]);
    project.pipeline(&FAILING.replace("exit 3", "echo y > a"));
    assert_eq!(project.events(&[]).ran(), ["bad", "behind"]);
}

#[test]
fn after_a_failure_nothing_new_begins() {
    let project = Project::new("
        stages:
          first: { kind: exec, with: { env: { N: 1 }, shell: &once 'mkdir \"$HOME/once\"; exit 1' } }
          second: { kind: exec, with: { env: { N: 2 }, shell: *once } }
          third: { kind: exec, with: { env: { N: 3 }, shell: *once } }
    ");
    let events = project.events(&["--slots", "1"]);
    assert_eq!((events.stages("started").len(), events.stages("skipped").len()), (1, 2));
    assert!(events.of("skipped").all(|it| it["because"] == "another stage failed"));
}

#[test]
fn only_the_last_lines_of_a_long_log_are_shown() {
    let project = Project::new(
        "
        stages:
          count: { kind: exec, with: { shell: 'seq 1000; printf \"\\033[31mred\"; exit 1' } }
    ",
    );
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
    assert_eq!(project.gradus(&["logs", "p.yaml", "count"]).stdout.lines().count(), 1001);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let project = Project::new(
        "
        stages: { run: { kind: exec, with: { command: [no-such-program, a] } } }
    ",
    );
    assert_eq!(
        project.events(&[]).failure("run"),
        "`no-such-program` cannot be started: No such file or directory (os error 2)"
    );
}

#[test]
fn an_output_that_is_missing_is_named() {
    let project = Project::new(
        "
        stages: { run: { kind: exec, outputs: { a: deep/a }, with: { command: ['true'] } } }
    ",
    );
    assert_eq!(
        project.events(&[]).failure("run"),
        "the program ended well but left no `deep/a`, the output `a`"
    );
}

#[test]
fn an_output_that_a_link_leads_out_to_is_refused() {
    let project = Project::new("
        stages:
          run:
            kind: exec
            outputs: { a: out/precious }
            with: { shell: 'rmdir out; ln -s \"$HOME/home\" out' }
          link: { kind: exec, outputs: { a: a }, with: { shell: 'ln -s \"$HOME/home/precious\" a' } }
    ");
    project.write("home/precious", "mine");
    let events = project.events(&["--keep-going"]);
    assert_eq!(events.stages("failed").len(), 2);
    assert_eq!(project.read("home/precious"), "mine");
    let mode = fs::metadata(project.path("home/precious")).unwrap().permissions().mode();
    assert_eq!(mode & 0o200, 0o200, "the file was made read-only");
}

#[test]
fn a_child_that_stays_behind_cannot_write_into_the_store() {
    let project = Project::new(
        "
        stages:
          run:
            kind: exec
            outputs: { a: a }
            with: { shell: '(echo first; sleep 0.3; echo later) > a & sleep 0.1' }
          wait: { kind: exec, inputs: { a: run }, with: { shell: 'sleep 0.5' } }
    ",
    );
    assert_eq!(project.events(&[]).ran(), ["run", "wait"]);
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}
