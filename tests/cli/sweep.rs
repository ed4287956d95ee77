//! `gradus sweep` and `gradus pin`, alone and beside runs.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    thread,
    time::{Duration, SystemTime},
};

use insta::assert_snapshot;

use crate::support::Project;

const PIPELINE: &str = "
    params: { word: one }
    stages:
      make:
        kind: exec
        outputs: { text: text }
        with: { shell: 'printf %s \"$WORD\" > text', env: { WORD: '${params.word}' } }
      twice:
        kind: exec
        inputs: { text: make }
        outputs: { text: text }
        with: { shell: 'cat inputs/text inputs/text > text' }
";

/// Makes everything in the cache look as if nobody had touched it for forty days.
fn age(project: &Project) {
    for path in project.files_below(".gradus") {
        let old = SystemTime::now() - Duration::from_hours(40 * 24);
        File::open(path).unwrap().set_modified(old).unwrap();
    }
}

/// A project with an old run, and a younger one of another word.
fn with_runs() -> Project {
    let project = Project::new(PIPELINE);
    assert_eq!(project.events(&[]).code, Some(0));
    age(&project);
    assert_eq!(project.events(&["--set", "word=two"]).code, Some(0));
    project
}

fn runs(project: &Project) -> BTreeSet<String> {
    let folders = fs::read_dir(project.path(".gradus/runs")).unwrap().flatten();
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_sweep_says_what_it_would_do_and_then_does_it() {
    let project = with_runs();
    // Actions and records hold times, whose lengths differ.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d\.\d kB", "[size]");
    let _filters = settings.bind_to_scope();
    let files = project.files_below(".gradus/blobs").len();
    assert_snapshot!(project.gradus(&["sweep", "--older-than", "30d", "--runs"]));
    assert_eq!(project.files_below(".gradus/blobs").len(), files);
    assert_eq!(runs(&project).len(), 2);
    assert_snapshot!(project.gradus(&["sweep", "--older-than", "30d", "--runs", "--delete"]));
    assert_snapshot!(project.gradus(&["sweep", "--older-than", "30d", "--delete"]));
    assert_eq!(runs(&project).len(), 1);
    assert!(project.events(&["--set", "word=two"]).ran().is_empty());
    assert_eq!(project.events(&[]).ran(), ["make", "twice"]);
}

#[test]
fn what_a_pinned_run_uses_stays() {
    let project = with_runs();
    let run = runs(&project).first().unwrap().clone();
    assert_eq!(project.gradus(&["pin", &run]).code, Some(0));
    age(&project);
    let sweep = ["sweep", "--older-than", "30d", "--keep-size", "0B", "--runs", "--delete"];
    assert_eq!(project.gradus(&sweep).code, Some(0));
    assert!(project.events(&[]).ran().is_empty());
    assert_eq!(project.events(&["--set", "word=two"]).ran(), ["make", "twice"]);
    assert_eq!(project.gradus(&["pin", &run, "--unpin"]).code, Some(0));
    age(&project);
    project.gradus(&sweep);
    assert_eq!(project.events(&[]).ran(), ["make", "twice"]);
}

#[test]
fn a_run_that_is_not_there_cannot_be_pinned() {
    let project = Project::new(PIPELINE);
    for run in ["20200101-000000", "../..", ""] {
        let ran = project.gradus(&["pin", run]);
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stderr.contains("no run is called"), "{ran}");
    }
}

#[test]
fn programs_get_the_sweep_as_numbers() {
    let project = with_runs();
    let swept = project.gradus(&["sweep", "--keep-size", "0B", "--format", "json"]).json();
    assert_eq!(swept["deleted"], false);
    assert_eq!(swept["swept"]["results"]["number"], 2);
    assert_eq!(swept["swept"]["objects"]["bytes"], 9);
}

#[test]
fn a_run_that_finds_its_input_swept_computes_it_anew() {
    let mut project = Project::new(
        "
        stages:
          first: { kind: exec, outputs: { a: a }, with: { shell: 'echo x >> \"$HOME/first\"; echo 1 > a' } }
          wait:
            kind: exec
            outputs: { a: a }
            with: { shell: 'echo 2 > a; touch \"$HOME/waits\"; until [ -e \"$HOME/go\" ]; do sleep 0.02; done' }
          last: { kind: exec, inputs: { a: first, b: wait }, outputs: { a: a }, with: { shell: 'cat inputs/a inputs/b > a' } }
    ",
    );
    project.set("HOME", project.path("").to_str().unwrap());
    let mut run = project.start(&["run", "p.yaml", "--format", "json", "--slots", "2"]);
    run.wait_for(r#"{"event":"finished","stage":"first""#);
    while !project.path("waits").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    for path in project.files_below(".gradus/blobs") {
        fs::remove_file(path).unwrap();
    }
    project.write("go", "");
    let ran = run.wait();
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("its output is gone from the cache"), "{ran}");
    assert_eq!(project.read("first"), "x\nx\n");
    project.gradus(&["export", "p.yaml", "last", "out"]);
    assert_eq!(project.read("out/a"), "1\n2\n");
}

#[test]
fn what_always_runs_is_not_taken_from_the_cache_when_its_input_was_swept() {
    let mut project = Project::new(
        "
        stages:
          first: { kind: exec, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
          last:
            kind: exec
            cache: false
            inputs: { a: first }
            outputs: { a: a }
            with:
              shell: |
                touch $HOME/waits
                until [ -e $HOME/go ]; do sleep 0.02; done
                if [ -e $HOME/fails ]; then rm $HOME/fails; exit 1; fi
                cp inputs/a a
    ",
    );
    project.set("HOME", project.path("").to_str().unwrap());
    project.write("go", "");
    assert_eq!(project.events(&[]).ran(), ["first", "last"]);
    fs::remove_file(project.path("go")).unwrap();
    fs::remove_file(project.path("waits")).unwrap();
    project.write("fails", "");
    let run = project.start(&["run", "p.yaml", "--format", "json"]);
    while !project.path("waits").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    for path in project.files_below(".gradus/blobs") {
        fs::remove_file(path).unwrap();
    }
    project.write("go", "");
    let ran = run.wait();
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(ran.stdout.matches(r#""event":"started","stage":"last""#).count(), 2, "{ran}");
    assert!(ran.stdout.contains(r#""event":"finished","stage":"last""#), "{ran}");
}

/// Says on drop that it is over.
struct Ends<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_sweep_beside_live_runs_takes_nothing_that_they_need() {
    let project = Project::new("");
    let stage = |i: usize| {
        let input = if i == 0 { String::new() } else { format!("inputs: {{ a: s{} }}, ", i - 1) };
        let shell = format!("cat inputs/a > a 2>/dev/null || true; echo {i} >> a; sleep 0.1");
        format!(
            "  s{i}: {{ kind: exec, {input}outputs: {{ a: a }}, with: {{ shell: '{shell}' }} }}"
        )
    };
    let stages = (0..6).map(stage).collect::<Vec<_>>().join("\n") + "\n";
    for name in ["p", "q", "r"] {
        let own = format!(
            "  own: {{ kind: exec, outputs: {{ a: a }}, inputs: {{ a: s5 }}, with: {{ shell: 'echo {name} | cat inputs/a - > a' }} }}\n"
        );
        project.write(&format!("{name}.yaml"), format!("stages:\n{stages}{own}"));
    }
    let runs = ["p.yaml", "q.yaml", "r.yaml"]
        .map(|name| project.start(&["run", name, "--format", "json", "--slots", "2"]));
    let (project, sweeps) = (&project, &std::sync::atomic::AtomicUsize::new(0));
    let done = &std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for the sweeps.
        let _ends = Ends(done);
        scope.spawn(move || {
            let sweep = ["sweep", "--older-than", "0s", "--keep-size", "0B", "--delete"];
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let ran = project.gradus(&[&sweep[..], &["--grace", "0s"]].concat());
                assert_eq!(ran.code, Some(0), "{ran}");
                sweeps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        for run in runs {
            let ran = run.wait();
            assert_eq!(ran.code, Some(0), "{ran}");
            assert!(!ran.stdout.contains(r#""event":"failed""#), "{ran}");
        }
    });
    assert!(sweeps.load(std::sync::atomic::Ordering::Relaxed) > 3);
    for name in ["p", "q", "r"] {
        assert_eq!(project.gradus(&["run", &format!("{name}.yaml")]).code, Some(0));
        project.gradus(&["export", &format!("{name}.yaml"), "own", name]);
        assert_eq!(project.read(&format!("{name}/a")), format!("0\n1\n2\n3\n4\n5\n{name}\n"));
    }
}

#[test]
fn a_run_is_pinned_by_any_of_its_names_and_marked() {
    let project = Project::new(
        "stages: { s: { kind: exec, outputs: { o: o }, with: { shell: 'echo > o' } } }",
    );
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["run", "p.yaml"]);
    assert_eq!(project.gradus(&["pin", "last~1"]).code, Some(0));
    let marks = || {
        let runs = project.gradus(&["runs"]).stdout;
        runs.lines().map(|line| line.ends_with(", pinned")).collect::<Vec<_>>()
    };
    assert_eq!(marks(), [false, true]);
    assert_eq!(project.gradus(&["pin", "last~1", "--unpin"]).code, Some(0));
    assert_eq!(marks(), [false, false]);
    assert_eq!(project.gradus(&["pin", "last~7"]).code, Some(1));
    let swept = project.gradus(&["sweep"]).stdout;
    assert!(swept.contains("with all that was used within 1 h 00 min"), "{swept}");
}
