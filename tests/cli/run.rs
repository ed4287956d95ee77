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
    assert_eq!(reasons[1], "input text from make.text 99a5bc94 → 5a3ad503");
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

#[test]
fn a_rehearsal_does_little_and_leaves_nothing_among_the_results() {
    let project = Project::new(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews, text: 100000, prompts: 3 } }
          program: { kind: exec, inputs: { rows: rows.text }, outputs: { o: o }, with: { shell: 'echo \"${GRADUS_REHEARSAL:-0}\" | tee o' } }
    ",
    );
    let ran = project.gradus(&["rehearse", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("nothing of that is among your results"), "{ran}");
    assert_eq!(project.events(&[]).ran(), ["program", "rows"]);
    let said =
        |cache: &str| project.gradus(&["logs", "p.yaml", "program", "--cache", cache]).stdout;
    assert_eq!((said(".gradus/rehearsal"), said(".gradus")), ("1\n".to_owned(), "0\n".to_owned()));
    let given = ["explain", "p.yaml", "rows", "--cache", ".gradus/rehearsal", "--format", "json"];
    let rows = project.gradus(&given).json()["rows"].clone();
    let of = |name: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
        row["last"]["value"].clone()
    };
    // The smaller of two numbers.
    assert_eq!((of("text"), of("prompts")), (500.into(), 3.into()));
}
