//! Files that include others, and stages made from templates: mistakes stand in the file that made them.

use insta::assert_snapshot;

use super::check;
use crate::support::{Project, Ran};

/// What a person reads about `p.yaml` with other files beside it.
fn check_files(pipeline: &str, files: &[(&str, &str)]) -> (Project, Ran) {
    let project = Project::new(pipeline);
    for (name, text) in files {
        project.write(name, text);
    }
    let ran = project.gradus(&["check", "p.yaml"]);
    (project, ran)
}

// Includes.

#[test]
fn an_include_names_a_file_in_the_folder() {
    let project = Project::new(
        "
        include:
          1st: base.yaml
          gone: none.yaml
          away: ../outside.yaml
          root: /etc/passwd
          link: linked.yaml
          folder: libtorch
          filled: '${params.file}'
          list: [a]
          empty: {}
          more: { path: base.yaml, parms: {} }
        params: { file: base.yaml }
        stages:
          one: { kind: exec, inputs: { a: gone/x, b: empty/y.out }, with: { command: [ls] } }
    ",
    );
    project.write("base.yaml", "stages: {}");
    std::os::unix::fs::symlink("/etc/passwd", project.path("linked.yaml")).unwrap();
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

#[test]
fn mistakes_in_an_included_file_are_shown_there() {
    let (_project, ran) = check_files(
        "
        include:
          base: { path: common/base.yaml, params: { rates: 3, sead: 1, rate: '${params.rate}', file: rows.txt } }
          broken: common/broken.yaml
        stages:
          one: { kind: data.tokenizer, inputs: { rows: base/rows.txt } }
          two: { kind: data.tokenizer, inputs: { rows: base/rwos } }
          three: { kind: data.tokenizer, inputs: { rows: ./base/rows } }
          four: { kind: data.tokenizer, inputs: { rows: broken/rows } }
    ",
        &[
            (
                "common/base.yaml",
                "
params: { rate: 1, seed: 2, file: missing.txt }
frobnicate: 1
stages:
  rows: { kind: data.synthetic, with: { task: reviews, text: '${params.sed}' } }
  read: { kind: data.load, with: { path: '${params.file}', format: text } }
  near: { kind: data.load, with: { path: nowhere.txt, format: text } }
  away: { kind: data.load, with: { path: ../../x.txt, format: text } }
  tune: { kind: data.tokenizer, inputs: { rows: rosw } }
  outer: { kind: data.tokenizer, inputs: { rows: one } }
",
            ),
            ("common/broken.yaml", "stages: ["),
        ],
    );
    assert_snapshot!(ran);
}

#[test]
fn files_that_include_each_other_are_shown_as_their_path() {
    let (_project, ran) = check_files(
        "include: { a: deep/a.yaml, own: p.yaml }",
        &[("deep/a.yaml", "include: { b: b.yaml }"), ("deep/b.yaml", "include: { a: a.yaml }")],
    );
    assert_snapshot!(ran);
}

#[test]
fn a_pipeline_needs_stages_and_an_included_file_something() {
    let (_project, ran) = check_files(
        "
        include: { empty: empty.yaml, templates: templates.yaml }
    ",
        &[
            ("empty.yaml", "name: nothing\n"),
            ("templates.yaml", "templates: { t: { kind: data.synthetic } }"),
        ],
    );
    assert_snapshot!(ran);
    assert_snapshot!(check("templates: { t: { kind: data.synthetic } }").1);
}

#[test]
fn files_that_multiply_are_refused_at_once() {
    let project = Project::new("include: { a: f0.yaml, b: f0.yaml }\nstages: {}");
    for i in 0..30 {
        let next = format!("f{}.yaml", i + 1);
        let text = format!("include: {{ a: {next}, b: {next} }}\nstages: {{}}");
        project.write(&format!("f{i}.yaml"), text);
    }
    let began = std::time::Instant::now();
    let ran = project.gradus(&["check", "p.yaml"]);
    assert!(began.elapsed().as_secs() < 5);
    assert!(ran.stderr.contains("files included one in the other (at most 8)"), "{ran}");
    // Flat, and large.
    let names: Vec<_> = (0..5000).map(|i| format!("  a{i}: big.yaml\n")).collect();
    project.pipeline(&format!("include:\n{}stages: {{}}\n", names.concat()));
    project.write("big.yaml", format!("# {}\nstages: {{}}", "x".repeat(500_000)));
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
    project.write("big.yaml", "stages: {}");
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
    assert!(began.elapsed().as_secs() < 15);
}

// Templates.

#[test]
fn templates_and_their_arguments_are_checked() {
    let (_project, ran) = check(
        "
        templates:
          2nd: { kind: data.synthetic }
          rows: { kind: data.synthetic, required: [task, count], args: { noise: 0.1, count: 1 }, with: { task: '${args.task}', label_noise: '${args.nois}' } }
          bare: { with: {} }
          nested: { template: rows, kind: data.synthetic, colour: red }
          list: [a]
          faulty: { kind: data.synthetic, with: { task: poems } }
        stages:
          one: { template: rosw }
          two: { template: rows, kind: data.synthetic, args: { task: reviews, count: 1 } }
          three: { template: rows, args: { tsk: reviews } }
          four: { template: rows, args: { task: poems, count: 1 } }
          five: { kind: data.synthetic, args: { task: reviews }, with: { task: reviews } }
          six: { kind: data.synthetic, with: { task: '${args.task}' } }
          seven: { template: [rows] }
          eight: { template: faulty }
          nine: { template: faulty }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn templates_that_multiply_are_refused_at_once() {
    let stages: Vec<_> = (0..5000).map(|i| format!("  a{i}: {{ template: big }}\n")).collect();
    let text = format!(
        "templates:\n  big: {{ kind: exec, with: {{ command: [echo, {}] }} }}\nstages:\n{}",
        "x".repeat(500_000),
        stages.concat()
    );
    let began = std::time::Instant::now();
    let (_project, ran) = check(&text);
    assert!(began.elapsed().as_secs() < 10);
    assert_snapshot!(ran);
}

#[test]
fn templates_that_build_on_nothing_are_shown() {
    let project = Project::new(
        "
        templates:
          leaf: { template: one, with: { a: 1 } }
          one: { template: two }
          two: { template: three }
          three: { template: one }
          lost: { template: nowhere }
          both: { template: fine, kind: exec }
          fine: { kind: exec, required: [a], with: { shell: 'echo ${args.a}' } }
        stages:
          a: { template: leaf }
          b: { template: lost }
          c: { template: both }
    ",
    );
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

#[test]
fn rounds_that_cannot_be_are_shown_where_they_are() {
    let round = "
stages:
  fixed: { kind: exec, outputs: { text: text }, with: { shell: 'echo fixed > text' } }
  grow:
    kind: exec
    inputs: { before: previous/grow, fixed: fixed }
    outputs: { text: text }
    with: { shell: 'cat inputs/* > text' }
";
    let project = Project::new(
        "
        include:
          none: { path: round.yaml, rounds: 2 }
          word: { path: round.yaml, rounds: many, first: { grow: start } }
          zero: { path: round.yaml, rounds: 0, first: { grow: start } }
          once: { path: round.yaml, first: { grow: start } }
          axis: { path: round.yaml, matrix: { round: [1, 2] }, rounds: 2, first: { grow: start } }
          name: { path: round.yaml, rounds: 2, first: { gorw: start, grow: strat, fixed: 3 } }
          nil: { path: round.yaml, rounds: 2, first: { grow: } }
          output: { path: round.yaml, rounds: 2, first: { grow: start.less } }
          previous: { path: round.yaml, rounds: 2, first: { grow: start } }
        stages:
          start: { kind: exec, outputs: { text: text }, with: { shell: 'echo start > text' } }
          late: { kind: exec, inputs: { a: 'output/grow[round=3]' }, with: { shell: 'true' } }
    ",
    );
    let round = round.replace("fixed: fixed", "fixed: fixed, other: previous/grwo");
    project.write("round.yaml", &round);
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

#[test]
fn files_that_a_stage_cannot_use_and_what_they_say_are_shown_before_anything_runs() {
    let pipeline = "
        stages:
          sft:
            kind: train.sft
            matrix: { rate: [1e-3, 1e-4] }
            inputs: { model: ./base, completions: ./rows }
            with: { learning_rate: '${matrix.rate}', max_length: 4096 }
          dpo:
            kind: policy.dpo
            inputs: { policy: 'sft[rate=0.001]', preferences: ./rows }
            with: { learning_rate: 1e-3, max_length: 2049 }
    ";
    let mut project = Project::new(pipeline);
    project.write("base/config.json", "{}");
    project.write("rows/rows.jsonl", "{}");
    let mut check = |look: &str| {
        project.set("FAKE_WORKER", look);
        project.gradus(&["check", "p.yaml"])
    };
    assert_snapshot!(check("look=tell model.context_length 2048"));
    assert_snapshot!(check("look=fail model: it is a model of clay"));
    assert_eq!(check("").code, Some(0));
    // A run says it before it begins.
    project.set("FAKE_WORKER", "look=fail model: it is a model of clay");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("✗ sft[rate=0.001]  model: it is a model of clay\n"), "{ran}");
    assert!(project.files_below(".gradus/runs").is_empty());
}
