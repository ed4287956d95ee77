//! How stages are carried out: always, again after a failure, and within a time.

use std::time::Instant;

use insta::assert_snapshot;

use crate::support::Project;

// `cache: false`.

const ALWAYS: &str = "
    stages:
      clock:
        kind: exec
        cache: false
        outputs: { text: text }
        with: { shell: 'echo x >> \"$HOME/ran\"; cat \"$HOME/now\" > text' }
      reader: { kind: exec, inputs: { text: clock }, outputs: { a: a }, with: { shell: 'cp inputs/text a' } }
      last: { kind: exec, inputs: { a: reader }, with: { command: ['true'] } }
";

#[test]
fn a_stage_that_is_not_cached_always_runs_and_its_readers_only_after_a_change() {
    let project = Project::new(ALWAYS);
    project.write("now", "one");
    assert_eq!(project.events(&[]).ran(), ["clock", "last", "reader"]);
    let again = project.events(&[]);
    assert_eq!((again.ran(), again.cached()), (vec!["clock"], vec!["last", "reader"]));
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
    project.write("now", "two");
    assert_eq!(project.events(&[]).ran(), ["clock", "last", "reader"]);
    assert_eq!(project.read("ran").lines().count(), 3);
    let plan = project.gradus(&["plan", "p.yaml", "--format", "json"]).json();
    assert_eq!(plan["stages"][0]["cause"], "always");
}

#[test]
fn what_changes_no_bytes_changes_no_fingerprint() {
    let plain = "stages: { a: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } } }";
    let project = Project::new(plain);
    assert_eq!(project.events(&[]).ran(), ["a"]);
    let conduct = "retries: 2, timeout: 1h30m, cache: '${params.cache}', kind";
    let full = format!("params: {{ cache: true }}\n{}", plain.replacen("kind", conduct, 1));
    project.pipeline(&full);
    assert_eq!(project.events(&[]).cached(), ["a"]);
    assert_eq!(project.events(&["--set", "cache=false"]).ran(), ["a"]);
}

// `retries`.

const FLAKY: &str = "
    stages:
      flaky:
        kind: exec
        retries: 2
        outputs: { a: a }
        with: { shell: 'echo x >> \"$HOME/tries\"; echo try it; test $(wc -l < \"$HOME/tries\") -ge 3; cp \"$HOME/tries\" a' }
";

#[test]
fn a_failure_that_may_pass_is_tried_again() {
    let project = Project::new(FLAKY);
    let events = project.events(&[]);
    assert_eq!((events.code, events.ran()), (Some(0), vec!["flaky"]));
    let tries: Vec<_> = events.of("retried").map(|it| it["failures"].as_u64().unwrap()).collect();
    assert_eq!((tries, events.stages("started").len()), (vec![1, 2], 3));
    assert_snapshot!(project.gradus(&["logs", "p.yaml", "flaky"]));
}

#[test]
fn the_last_failure_is_told_as_any() {
    let project = Project::new(&FLAKY.replace("retries: 2", "retries: 1"));
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
}

#[test]
fn a_worker_that_dies_is_tried_again_and_one_that_refuses_is_not() {
    const WORKERS: &str = "
        stages:
          rows: { kind: data.synthetic, retries: 1, with: { task: reviews } }
    ";
    for (behaviour, times) in [("exit 3", 1), ("crash out of memory", 1), ("fail too small", 0)] {
        let mut project = Project::new(WORKERS);
        project.set("FAKE_WORKER", &format!("data.synthetic={behaviour}"));
        let events = project.events(&[]);
        assert_eq!(events.of("retried").count(), times, "{behaviour}");
        assert_eq!(events.stages("failed"), ["rows"]);
    }
}

#[test]
fn an_output_that_is_missing_is_not_tried_again() {
    let project = Project::new(
        "
        stages: { a: { kind: exec, retries: 3, outputs: { a: a }, with: { command: ['true'] } } }
    ",
    );
    assert_eq!(project.events(&[]).of("retried").count(), 0);
}

#[test]
fn ctrl_c_ends_the_wait_for_another_try() {
    let project = Project::new(
        "
        stages: { a: { kind: exec, retries: 10, with: { command: ['false'] } } }
    ",
    );
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    // The third pause is four seconds long.
    run.wait_for(r#""failures":3"#);
    let began = Instant::now();
    run.signal("INT");
    let ran = run.wait();
    assert!(ran.stdout.contains(r#""outcome":"cancelled""#), "{ran}");
    assert!(began.elapsed().as_secs() < 2);
}

// `timeout`.

#[test]
fn a_stage_is_asked_to_end_when_its_time_is_over() {
    let project = Project::new(
        "
        stages:
          slow:
            kind: exec
            timeout: 0.3
            with: { shell: 'trap \"echo tidy; exit 3\" TERM; sleep 60 & wait' }
          quick: { kind: exec, timeout: 1m, with: { command: ['true'] } }
    ",
    );
    let events = project.events(&["--keep-going"]);
    assert_eq!((events.ran(), events.stages("failed")), (vec!["quick"], vec!["slow"]));
    assert_eq!(
        events.failure("slow"),
        "it was not done within its `timeout` of 300ms: give it more time"
    );
    assert_eq!(project.gradus(&["logs", "p.yaml", "slow"]).stdout, "tidy\n");
}

#[test]
fn a_worker_whose_time_is_over_is_asked_to_cancel_and_tried_again() {
    let mut project = Project::new(
        "
        stages: { rows: { kind: data.synthetic, retries: 1, timeout: 1s, with: { task: reviews } } }
    ",
    );
    project.set("FAKE_WORKER", "data.synthetic=wait");
    let events = project.events(&[]);
    assert_eq!(events.of("retried").count(), 1);
    assert_eq!(events.stages("failed"), ["rows"]);
    let log = project.gradus(&["logs", "p.yaml", "rows"]).stdout;
    assert_eq!(log.matches("cancelled as asked").count(), 2, "{log}");
}
