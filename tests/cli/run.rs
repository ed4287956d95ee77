//! `gradus run`: what runs, what does not, and what is said about it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use insta::assert_snapshot;

use crate::support::Project;

/// `upper` makes the same bytes of `Word` and `word`; `length` reads `upper`, `other` reads nothing.
const CHAIN: &str = "
    params: { word: word, mark: '!' }
    stages:
      make:
        kind: exec
        outputs: { text: text }
        with: { shell: 'printf %s \"$WORD\" > text', env: { WORD: '${params.word}' } }
      upper:
        kind: exec
        inputs: { text: make }
        outputs: { text: text }
        with: { shell: 'tr a-z A-Z < inputs/text > text' }
      length:
        kind: exec
        inputs: { text: upper }
        outputs: { size: size }
        with: { shell: 'wc -c < \"$INPUT_TEXT\" > \"$OUTPUT_SIZE\"' }
      other:
        kind: exec
        outputs: { mark: mark }
        with: { command: [sh, -c, 'echo \"$1\" > mark', sh, '${params.mark}'] }
";

fn chain() -> Project {
    let project = Project::new(CHAIN);
    assert_eq!(project.events(&[]).code, Some(0));
    project
}

#[test]
fn a_run_is_told_stage_by_stage() {
    let project = Project::new(CHAIN);
    assert_snapshot!(project.gradus(&["run", "p.yaml", "length"]));
}

#[test]
fn the_second_run_finds_everything_cached() {
    let project = chain();
    assert_snapshot!(project.gradus(&["run", "p.yaml", "length"]));
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

#[test]
fn programs_get_the_events_one_a_line() {
    let project = Project::new(CHAIN);
    assert_snapshot!(project.gradus(&["run", "p.yaml", "upper", "--format", "json"]));
}

#[test]
fn a_changed_parameter_reruns_what_it_touches() {
    let project = chain();
    assert_eq!(project.events(&["--set", "mark=x"]).ran(), ["other"]);
    let events = project.events(&["--set", "word=longer"]);
    assert_eq!(events.ran(), ["length", "make", "upper"]);
    let reasons: Vec<_> = events.of("started").map(|it| &it["reasons"][0]).collect();
    assert_eq!(reasons[1], "input text");
    // What ran once is known for ever, in whatever order values come and go.
    assert!(project.events(&[]).ran().is_empty());
}

#[test]
fn nothing_behind_equal_bytes_runs_again() {
    let project = chain();
    let events = project.events(&["--set", "word=WORD"]);
    assert_eq!(events.ran(), ["make", "upper"]);
    assert_eq!(events.cached(), ["length", "other"]);
}

#[test]
fn names_comments_and_the_order_of_keys_change_nothing() {
    let project = chain();
    project.pipeline(
        "
        # Said in other words.
        description: the same work
        stages:
          size:
            with: { shell: 'wc -c < \"$INPUT_TEXT\" > \"$OUTPUT_SIZE\"' }
            inputs: { text: loud }
            outputs: { size: size }
            kind: exec
          loud: # moved
            kind: exec
            with: { env: {}, shell: 'tr a-z A-Z < inputs/text > text' }
            outputs: { text: text }
            inputs: { text: made }
          made:
            kind: exec
            with: { env: { WORD: word }, shell: 'printf %s \"$WORD\" > text' }
            outputs: { text: text }
        name: another
    ",
    );
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

#[test]
fn a_target_runs_with_what_it_needs() {
    let project = Project::new(CHAIN);
    assert_eq!(project.events(&["upper"]).ran(), ["make", "upper"]);
    assert_eq!(project.events(&["other", "length"]).ran(), ["length", "other"]);
}

#[test]
fn force_runs_what_is_cached() {
    let project = chain();
    assert_eq!(project.events(&["--force"]).ran(), ["length", "make", "other", "upper"]);
    assert_eq!(project.events(&["upper", "--force"]).ran(), ["upper"]);
}

#[test]
fn one_piece_of_work_under_two_names_runs_once() {
    let project = Project::new(
        "
        stages:
          one: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } }
          two: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } }
    ",
    );
    let events = project.events(&["--slots", "2"]);
    assert_eq!((events.ran().len(), events.cached().len()), (1, 1));
}

// Failures.

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

// Files of the user's.

const FILES: &str = "
    stages:
      count: { kind: exec, inputs: { a: data.txt }, outputs: { n: n }, with: { shell: 'wc < inputs/a > n' } }
      list: { kind: exec, inputs: { a: ./folder }, outputs: { n: n }, with: { shell: 'find inputs/a | wc -l > n' } }
";

fn files() -> Project {
    let project = Project::new(FILES);
    project.write("data.txt", "one");
    project.write("folder/deep/file", "two");
    assert_eq!(project.events(&[]).ran(), ["count", "list"]);
    project
}

#[test]
fn changed_content_of_an_input_reruns() {
    let project = files();
    project.write("data.txt", "two");
    assert_eq!(project.events(&[]).ran(), ["count"]);
    project.write("folder/new", "");
    assert_eq!(project.events(&[]).ran(), ["list"]);
}

#[test]
fn a_touched_input_does_not_rerun() {
    let project = files();
    let file = fs::File::options().append(true).open(project.path("data.txt")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

#[test]
fn an_input_that_moved_does_not_rerun() {
    let project = files();
    fs::rename(project.path("data.txt"), project.path("moved.txt")).unwrap();
    project.pipeline(&FILES.replace("data.txt", "./moved.txt"));
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

// The store.

#[test]
fn a_lost_blob_is_made_again() {
    let project = chain();
    for blob in project.files_below(".gradus/blobs") {
        if fs::read(&blob).unwrap() == b"WORD" {
            fs::remove_file(blob).unwrap();
        }
    }
    let events = project.events(&[]);
    assert_eq!(events.ran(), ["upper"]);
    assert_eq!(events.cached(), ["length", "make", "other"]);
}

#[test]
fn a_corrupt_blob_is_made_again() {
    let project = chain();
    for blob in project.files_below(".gradus/blobs") {
        if fs::read(&blob).unwrap() == b"WORD" {
            fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(blob, "LORD").unwrap();
        }
    }
    assert_eq!(project.events(&[]).ran(), ["upper"]);
    project.gradus(&["export", "p.yaml", "upper", "out"]);
    assert_eq!(project.read("out/text"), "WORD");
}

#[test]
fn a_corrupt_index_costs_explanations_alone() {
    let project = chain();
    for file in project.files_below(".gradus/index") {
        fs::write(file, "nonsense").unwrap();
    }
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

// Several at once.

#[test]
fn independent_stages_run_at_once_within_the_slots() {
    // Each waits until the other has begun, so one slot would not do.
    let project = Project::new("
        stages:
          one: { kind: exec, with: { env: { DIR: '${params.dir}' }, shell: &meet '
            touch \"$DIR/$$\"; until [ \"$(ls \"$DIR\" | wc -l)\" -ge 2 ]; do sleep 0.01; done; exit 0' } }
          two: { kind: exec, with: { env: { DIR: '${params.dir}', X: y }, shell: *meet } }
        params: { dir: '' }
    ");
    fs::create_dir(project.path("meeting")).unwrap();
    let dir = format!("dir={}", project.path("meeting").display());
    let events = project.events(&["--slots", "2", "--set", &dir]);
    assert_eq!(events.ran(), ["one", "two"]);
    let order: Vec<_> = events.list.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(
        order,
        ["run_started", "started", "started", "finished", "finished", "run_finished"]
    );
}

#[test]
fn one_slot_runs_one_stage_at_a_time() {
    let project = Project::new(CHAIN);
    let events = project.events(&["--slots", "1"]);
    let order: Vec<_> = events.list.iter().map(|it| it["event"].as_str().unwrap()).collect();
    let pairs = ["started", "finished"].repeat(4);
    assert_eq!(order[1..9], pairs);
}

#[test]
fn two_runs_share_one_cache() {
    let project = Project::new(CHAIN);
    let first = project.start(&["run", "p.yaml", "--format", "json"]);
    let second = project.start(&["run", "p.yaml", "--format", "json"]);
    assert_eq!((first.wait().code, second.wait().code), (Some(0), Some(0)));
    assert_eq!(project.events(&[]).ran(), [""; 0]);
}

// A matrix.

#[test]
fn each_point_of_a_matrix_is_a_stage() {
    let project = Project::new("
        params: { sizes: [1, 2], words: [a, b c] }
        stages:
          make:
            kind: exec
            matrix: { size: '${params.sizes}', word: '${params.words}' }
            outputs: { text: '${unused}text' }
            with: { command: [sh, -c, 'echo \"$1\" > \"$2\"', sh, '${stage.name}', '${outputs.text}'] }
          read:
            kind: exec
            inputs: { one: 'make[size=2,word=b c]' }
            outputs: { text: text }
            with: { shell: 'cat inputs/one > text' }
    ".replace("${unused}", "").as_str());
    let events = project.events(&[]);
    let mut all = vec!["read"];
    all.extend(["make[size=1,word=a]", "make[size=1,word=b c]"]);
    all.extend(["make[size=2,word=a]", "make[size=2,word=b c]"]);
    all.sort_unstable();
    assert_eq!(events.ran(), all);
    project.gradus(&["export", "p.yaml", "read.text", "out"]);
    assert_eq!(project.read("out/text"), "make[size=2,word=b c]\n");
    let events = project.events(&["--set", "sizes=[2, 3]"]);
    assert_eq!(events.ran(), ["make[size=3,word=a]", "make[size=3,word=b c]"]);
}
