//! Several runs at once on one cache: no work is done twice, and the dead hold nothing up.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::{Project, Ran};

/// Every stage notes that it ran. `slow` waits until the file `go` is there.
const PIPELINE: &str = "
    stages:
      first:
        kind: exec
        outputs: { a: a }
        with: { shell: 'echo first >> \"$HOME/ran\"; echo 1 > a' }
      slow:
        kind: exec
        inputs: { a: first }
        outputs: { a: a }
        with: { shell: 'echo slow >> \"$HOME/ran\"; until [ -e \"$HOME/go\" ]; do sleep 0.02; done; cp inputs/a a' }
      last:
        kind: exec
        inputs: { a: slow }
        outputs: { a: a }
        with: { shell: 'echo last >> \"$HOME/ran\"; cp inputs/a a' }
";

const RUN: [&str; 4] = ["run", "p.yaml", "--format", "json"];

fn project(pipeline: &str) -> Project {
    let mut project = Project::new(pipeline);
    project.set("HOME", project.path("").to_str().unwrap());
    project
}

/// Which stages ran, as they noted it themselves.
fn ran(project: &Project) -> Vec<String> {
    let mut lines: Vec<_> = project.read("ran").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn wait_until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < deadline, "it did not happen");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `stage` notes that it runs for the `times`th time.
fn wait_for(project: &Project, stage: &str, times: usize) {
    wait_until(|| {
        let text = fs::read_to_string(project.path("ran")).unwrap_or_default();
        text.lines().filter(|line| *line == stage).count() >= times
    });
}

fn leases(project: &Project) -> usize {
    project.files_below(".gradus/leases").len()
}

fn waited(ran: &Ran) -> usize {
    ran.stdout.lines().filter(|line| line.contains(r#""event":"waiting""#)).count()
}

#[test]
fn a_second_run_waits_for_the_first_and_takes_its_result() {
    let project = project(PIPELINE);
    let first = project.start(&RUN);
    wait_for(&project, "slow", 1);
    let mut second = project.start(&RUN);
    second.wait_for(r#""event":"waiting""#);
    project.write("go", "");
    let (first, second) = (first.wait(), second.wait());
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first}{second}");
    assert_eq!(ran(&project), ["first", "last", "slow"]);
    let run = first.stdout.split('"').nth(7).unwrap();
    let words = format!(r#""event":"waiting","stage":"slow","run":"{run}""#);
    assert!(second.stdout.contains(&words), "{second}");
    assert!(second.stdout.contains(r#"{"event":"cached","stage":"slow""#), "{second}");
    assert_eq!(leases(&project), 0);
}

#[test]
fn people_are_told_for_whom_a_stage_waits() {
    let project = project(PIPELINE);
    let first = project.start(&["run", "p.yaml"]);
    wait_for(&project, "slow", 1);
    let second = project.start(&["run", "p.yaml"]);
    wait_until(|| {
        let logs = project.files_below(".gradus/runs").into_iter();
        logs.filter(|path| path.ends_with("events.jsonl"))
            .any(|path| fs::read_to_string(path).unwrap().contains("waiting"))
    });
    project.write("go", "");
    assert_eq!(first.wait().code, Some(0));
    let said = second.wait().stderr;
    let line = said.lines().find(|line| line.starts_with("… slow")).unwrap();
    for word in ["waits for run 2", "(process ", " on ", "at the same work since 2"] {
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn three_overlapping_pipelines_run_each_stage_once() {
    let project = project(PIPELINE);
    let other = PIPELINE.replace("last", "other");
    for (name, text) in [("q.yaml", &other), ("r.yaml", &PIPELINE.replace("first:", "begin:"))] {
        let text =
            text.replace("a: first }", if name == "r.yaml" { "a: begin }" } else { "a: first }" });
        project.write(name, text.replace("\n    ", "\n"));
    }
    let start = |name: &str| project.start(&["run", name, "--format", "json", "--slots", "4"]);
    let runs = ["p.yaml", "q.yaml", "r.yaml"].map(start);
    wait_for(&project, "slow", 1);
    sleep(Duration::from_millis(100));
    project.write("go", "");
    for run in runs {
        let ran = run.wait();
        assert_eq!(ran.code, Some(0), "{ran}");
        assert!(waited(&ran) <= 3, "{ran}");
    }
    assert_eq!(ran(&project), ["first", "last", "other", "slow"]);
}

#[test]
fn a_killed_runs_stage_is_taken_over() {
    let project = project(PIPELINE);
    let first = project.start(&RUN);
    wait_for(&project, "slow", 1);
    let mut runs = [project.start(&RUN), project.start(&RUN)];
    for run in &mut runs {
        run.wait_for(r#""event":"waiting""#);
    }
    first.signal("KILL");
    wait_for(&project, "slow", 2);
    sleep(Duration::from_millis(600));
    project.write("go", "");
    for run in runs {
        let ran = run.wait();
        assert_eq!(ran.code, Some(0), "{ran}");
    }
    assert_eq!(ran(&project), ["first", "last", "slow", "slow"]);
    drop(first.wait());
}

#[test]
fn a_stopped_run_is_waited_for() {
    let project = project(PIPELINE);
    let first = project.start(&RUN);
    wait_for(&project, "slow", 1);
    first.signal("STOP");
    let mut second = project.start(&RUN);
    second.wait_for(r#""event":"waiting""#);
    sleep(Duration::from_millis(700));
    assert_eq!(ran(&project), ["first", "slow"]);
    first.signal("CONT");
    project.write("go", "");
    assert_eq!((first.wait().code, second.wait().code), (Some(0), Some(0)));
    assert_eq!(ran(&project), ["first", "last", "slow"]);
}

#[test]
fn ctrl_c_is_heard_while_waiting() {
    let project = project(PIPELINE);
    let first = project.start(&RUN);
    wait_for(&project, "slow", 1);
    let mut second = project.start(&RUN);
    second.wait_for(r#""event":"waiting""#);
    let began = Instant::now();
    second.signal("INT");
    let stopped = second.wait();
    assert!(stopped.stdout.contains(r#""outcome":"cancelled""#), "{stopped}");
    assert!(began.elapsed() < Duration::from_secs(3));
    project.write("go", "");
    assert_eq!(first.wait().code, Some(0));
}

#[test]
fn whoever_waits_leaves_its_slot_to_others() {
    let project = project(PIPELINE);
    let first = project.start(&RUN);
    wait_for(&project, "slow", 1);
    project.write(
        "q.yaml",
        PIPELINE.replace("\n    ", "\n")
            + "  free: { kind: exec, outputs: { a: a }, with: { shell: 'echo free >> \"$HOME/ran\"; echo 1 > a' } }\n",
    );
    let second = project.start(&["run", "q.yaml", "--format", "json", "--slots", "1"]);
    wait_for(&project, "free", 1);
    wait_until(|| {
        let events = project.files_below(".gradus/runs").into_iter();
        events
            .filter(|path| path.ends_with("events.jsonl"))
            .any(|path| fs::read_to_string(path).unwrap().contains(r#"finished","stage":"free""#))
    });
    project.write("go", "");
    assert_eq!((first.wait().code, second.wait().code), (Some(0), Some(0)));
    assert_eq!(ran(&project), ["first", "free", "last", "slow"]);
}

#[test]
fn runs_of_one_pipeline_put_their_final_outputs_in_one_place() {
    let project = project(
        "
        stages:
          file: { kind: exec, outputs: { a: a }, with: { shell: 'date +%N > a' } }
          folder: { kind: exec, outputs: { f: f/ }, with: { shell: 'mkdir f; for i in 1 2 3 4 5 6 7 8; do date +%N > f/$i; done' } }
    ",
    );
    for _ in 0..3 {
        let runs = [0; 4].map(|_| project.start(&["run", "p.yaml", "--force", "--format", "json"]));
        for run in runs {
            let ran = run.wait();
            assert_eq!(ran.code, Some(0), "{ran}");
        }
    }
    assert_eq!(project.files_below(".gradus/outputs/p/folder.f").len(), 8);
}

#[test]
fn a_cached_run_makes_no_lease_for_a_stage() {
    let project = project(PIPELINE);
    project.write("go", "");
    assert_eq!(project.events(&[]).code, Some(0));
    // Where leases cannot be made, what is cached still comes.
    let names: Vec<_> = project.events(&[]).cached().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["first", "last", "slow"]);
    assert_eq!(leases(&project), 0);
}

#[test]
fn a_cache_of_a_group_is_its_groups_to_write() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new(
        "stages: { a: { kind: exec, outputs: { t: t, d: d/ }, with: { shell: 'echo > t; mkdir -p d/e' } } }",
    );
    project.write("gradus.toml", "shared = \"group\"\n");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    for file in project.files_below(".gradus") {
        assert_eq!(mode(&file) & 0o040, 0o040, "{}", file.display());
        let folder = file.parent().unwrap();
        assert_eq!(mode(folder) & 0o2070, 0o2070, "{}", folder.display());
    }
    // One that was made for one person alone is not half shared.
    std::fs::remove_dir_all(project.path(".gradus")).unwrap();
    project.write("gradus.toml", "");
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    project.write("gradus.toml", "shared = \"group\"\n");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("was made for one person alone"), "{ran}");
    project.write("gradus.toml", "shared = \"everybody\"\n");
    let ran = project.gradus(&["plan", "p.yaml"]);
    assert!(ran.stderr.contains("expected `nobody` or `group`"), "{ran}");
}
