//! `gradus test`: snapshots of what a pipeline puts out.

use std::fs;

use insta::assert_snapshot;

use crate::support::Project;

const PIPELINE: &str = "
    params: { word: one }
    stages:
      rows: { kind: data.synthetic, with: { task: reviews } }
      make:
        kind: exec
        outputs: { text: text, table: table.csv, folder: folder/ }
        with:
          env: { WORD: '${params.word}' }
          shell: |
            printf 'head\\n%s\\ntail\\n' \"$WORD\" > text
            printf 'name,value\\na,0.5\\n' > table.csv
            mkdir folder; echo x > folder/x
    snapshot:
      - { metrics: rows, only: [score], tolerance: 0.01 }
      - { text: make }
      - { table: make.table }
      - { digest: make.folder }
";

fn project() -> Project {
    let mut project = Project::new(PIPELINE);
    project.set("FAKE_WORKER", "data.synthetic=measure 0.5");
    project
}

fn accepted() -> Project {
    let project = project();
    assert_eq!(project.gradus(&["test", "p.yaml", "--accept"]).code, Some(0));
    project
}

/// What a person reads on stdout, and the exit code.
fn shown(project: &Project, arguments: &[&str]) -> String {
    let ran = project.gradus(&[&["test", "p.yaml"], arguments].concat());
    format!("exit code {}\n{}", ran.code.unwrap(), ran.stdout)
}

#[test]
fn a_snapshot_that_is_missing_is_a_difference_until_it_is_accepted() {
    let project = project();
    assert_snapshot!(shown(&project, &[]));
    let pending = "snapshots/p__make.text.text.snap.new";
    assert_snapshot!(project.read(pending));
    assert_snapshot!(shown(&project, &["--accept"]));
    assert!(!project.path(pending).exists());
    assert_snapshot!(shown(&project, &[]));
    assert_eq!(project.files_below("snapshots").len(), 4);
}

#[test]
fn what_differs_is_shown_and_left_beside() {
    let mut project = accepted();
    project.set("FAKE_WORKER", "data.synthetic=measure 0.625");
    project.gradus(&["run", "p.yaml", "rows", "--force"]);
    assert_snapshot!(shown(&project, &["--set", "word=two"]));
    assert!(project.read("snapshots/p__make.text.text.snap").contains("one"));
    assert!(project.read("snapshots/p__make.text.text.snap.new").contains("two"));
    // What is as expected again needs no review.
    shown(&project, &[]);
    assert!(!project.path("snapshots/p__make.text.text.snap.new").exists());
}

#[test]
fn numbers_may_be_off_by_the_tolerance() {
    let mut project = accepted();
    let score = |project: &mut Project, value: &str| {
        project.set("FAKE_WORKER", &format!("data.synthetic=measure {value}"));
        project.gradus(&["run", "p.yaml", "rows", "--force"]);
        project.gradus(&["test", "p.yaml"]).code
    };
    assert_eq!(score(&mut project, "0.509"), Some(0));
    assert_eq!(score(&mut project, "0.511"), Some(1));
}

#[test]
fn without_the_key_the_metrics_of_all_stages_are_compared() {
    let project = project();
    project.pipeline(PIPELINE.split("snapshot:").next().unwrap());
    assert_snapshot!(shown(&project, &["--accept"]));
    assert_snapshot!(project.read("snapshots/p__rows.metrics.snap"));
}

#[test]
fn programs_get_a_line_with_every_verdict() {
    let project = accepted();
    let ran = project.gradus(&["test", "p.yaml", "--set", "word=two", "--format", "json"]);
    assert_eq!(ran.code, Some(1));
    let line = ran.stdout.lines().last().unwrap();
    assert_snapshot!(line);
}

#[test]
fn a_folder_has_no_text() {
    let project = project();
    project.pipeline(&PIPELINE.replace("digest: make.folder", "text: make.folder"));
    let text = shown(&project, &["--accept"]);
    assert!(text.contains("it is a folder: compare its `digest`"), "{text}");
}

#[test]
fn a_pipeline_that_fails_is_not_compared() {
    let project = project();
    project.pipeline(&PIPELINE.replace("mkdir folder", "exit 3"));
    let ran = project.gradus(&["test", "p.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(!project.path("snapshots").exists());
}

#[test]
fn several_pipelines_are_tested_in_one_go() {
    let project = accepted();
    fs::copy(project.path("p.yaml"), project.path("q.yaml")).unwrap();
    assert_eq!(project.gradus(&["test", "p.yaml", "q.yaml"]).code, Some(1));
    assert_eq!(project.gradus(&["test", "q.yaml", "p.yaml", "--accept"]).code, Some(0));
    assert_eq!(project.gradus(&["test", "p.yaml", "q.yaml"]).code, Some(0));
}

#[test]
fn insta_reads_the_snapshots_as_its_own() {
    let project = accepted();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(project.path("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        assert_snapshot!("p__make.text.text", "head\none\ntail\n");
        assert_snapshot!("p__rows.metrics", "score = 0.5");
    });
}

#[test]
fn snapshots_that_nothing_is_compared_with_are_named() {
    let project = accepted();
    let silent = project.gradus(&["test", "p.yaml"]);
    assert!(!silent.stderr.contains("was compared with nothing"), "{silent}");
    project.write("snapshots/p__gone.metrics.snap", "");
    project.write("snapshots/other__x.metrics.snap", "");
    let ran = project.gradus(&["test", "p.yaml"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stderr.matches("was compared with nothing").count(), 1, "{ran}");
    assert!(ran.stderr.contains("p__gone.metrics.snap"), "{ran}");
}
