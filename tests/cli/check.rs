//! `gradus check`: every class of mistake, as its author sees it.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, time::Instant};

use insta::assert_snapshot;

use crate::support::{Project, Ran};

/// What a person reads about a pipeline.
fn check(pipeline: &str) -> (Project, Ran) {
    let project = Project::new(pipeline);
    let ran = project.gradus(&["check", "p.yaml"]);
    (project, ran)
}

#[test]
fn every_class_of_mistake_is_in_a_snapshot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("engine/src/spec/mistake.rs")).unwrap();
    let names = source.lines().filter_map(|line| line.trim().split_once(" => \""));
    let mut known: BTreeSet<_> = names
        .filter_map(|(_, name)| name.strip_suffix("\","))
        .filter(|name| name.contains("::"))
        .collect();
    assert!(known.len() >= 20, "the names of problems are written in another way now");
    for entry in fs::read_dir(root.join("tests/cli/snapshots")).unwrap() {
        let shown = fs::read_to_string(entry.unwrap().path()).unwrap();
        known.retain(|name| !shown.lines().any(|line| line == format!("gradus::{name}")));
    }
    assert_eq!(known, BTreeSet::new());
}

#[test]
fn a_sound_pipeline_is_said_to_be_sound() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: data.synthetic, with: { task: reviews } }
          two: { kind: data.tokenizer, inputs: { rows: one } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn mistakes_come_all_at_once() {
    let (_project, ran) = check(
        "
        nmae: all-at-once
        stages:
          rows: { kind: data.synthetic, with: { task: poems, text: 0, demonstration: 5 } }
          tune:
            kind: train.sft
            inputs: { model: rows, completions: rwos.demonstrations }
            with: { learning_rate: fast, epochs: '${params.epochs}' }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn sound_and_faulty_pipelines_are_told_apart() {
    let (project, _) = check("stages: { a: { kind: data.synthetic, with: { task: reviews } } }");
    project.write("wrong.yaml", "stages: { a: { kind: data.synthetic } }");
    assert_snapshot!(project.gradus(&["check", "wrong.yaml", "p.yaml", "missing.yaml"]));
}

#[test]
fn programs_get_mistakes_as_one_value() {
    let (project, _) = check("stages: { a: { kind: data.synthetic, with: { task: reviews } } }");
    project.write("wrong.yaml", "# é\nstages: { é: 1, a: { kind: data.synthetc } }");
    let ran = project.gradus(&["check", "wrong.yaml", "p.yaml", "--format", "json"]);
    ran.json();
    assert_snapshot!(ran);
}

// The text itself.

#[test]
fn what_is_not_yaml_is_shown_where_it_breaks() {
    assert_snapshot!(check("stages: { a: [1, 2 }").1);
}

#[test]
fn a_break_at_a_letter_of_many_bytes_is_shown_too() {
    assert_snapshot!(check("stages:\n  \"ünfertig: é\n").1);
}

#[test]
fn an_empty_file_lacks_its_stages() {
    assert_snapshot!(check("").1);
}

#[test]
fn a_list_is_no_pipeline() {
    assert_snapshot!(check("- a\n- b").1);
}

#[test]
fn a_pipeline_that_is_not_there_is_said_so() {
    let (project, _) = check("");
    assert_snapshot!(project.gradus(&["check", "folder/none.yaml"]));
}

#[test]
fn a_folder_is_no_pipeline() {
    let (project, _) = check("");
    assert_snapshot!(project.gradus(&["check", "libtorch"]));
}

#[test]
fn a_pipeline_that_is_not_utf8_is_refused() {
    let (project, _) = check("");
    project.write("p.yaml", b"name: \xff\xfe");
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

#[test]
fn a_key_that_stands_twice_is_shown_at_its_second_place() {
    let (_project, ran) = check(
        "
        params: { a: 1 }
        stages:
          one: { kind: data.synthetic, with: { task: reviews } }
          two: { kind: data.tokenizer, inputs: { rows: one } }
          one: { kind: data.synthetic, with: { task: arithmetic, task: reviews } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn tags_are_refused() {
    assert_snapshot!(check("stages: !!python/object:os.system { a: 1 }").1);
}

#[test]
fn merge_keys_are_refused() {
    let (_project, ran) = check(
        "
        params: { base: &base { task: reviews } }
        stages:
          one: { kind: data.synthetic, with: { <<: *base } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: data.synthetic, with: { task: reviews, label_noise: .nan, w_topic: -.inf } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_line_break_for_some_readers_alone_is_refused() {
    assert_snapshot!(check("# comment\u{2028}params: {}\nstages: {}").1);
}

#[test]
fn keys_that_are_not_text_are_refused() {
    assert_snapshot!(check("params: { 1: one, true: two }\nstages: {}").1);
}

#[test]
fn a_second_document_is_refused() {
    assert_snapshot!(check("stages: {}\n---\nstages: {}").1);
}

#[test]
fn an_alias_inside_its_own_anchor_is_refused() {
    assert_snapshot!(check("params: &all { again: *all }\nstages: {}").1);
}

#[test]
fn a_text_over_a_mebibyte_is_refused() {
    let text = format!("# {}\nstages: {{}}", "x".repeat(1 << 20));
    assert_snapshot!(check(&text).1);
}

#[test]
fn anchors_inside_anchors_are_counted_each() {
    let opening = (0..60).map(|i| format!("&a{i} [")).collect::<Vec<_>>().concat();
    let text = format!("params: {{ a: {opening}{}{} }}", " 1,\n".repeat(40_000), "]".repeat(60));
    assert_snapshot!(check(&text).1);
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("params: {{ a: {}1{} }}", "[".repeat(100), "]".repeat(100));
    assert_snapshot!(check(&text).1);
}

#[test]
fn too_many_aliases_are_refused() {
    let text = format!("params:\n  a: &a 1\n  b: [{}]", "*a, ".repeat(1000));
    assert_snapshot!(check(&text).1);
}

#[test]
fn more_values_than_a_pipeline_needs_are_refused() {
    assert_snapshot!(check(&format!("params: {{ a: [\n{}] }}", " 1,\n".repeat(60_000))).1);
}

#[test]
fn a_small_file_that_expands_to_a_gigabyte_is_refused_at_once() {
    let word = "x".repeat(50_000);
    let text = format!("params:\n  a: &a {word}\n  b: [{}]", "*a,".repeat(20_000));
    let began = Instant::now();
    let (_project, ran) = check(&text);
    assert!(began.elapsed().as_secs() < 5);
    assert_snapshot!(ran);
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = "params:\n  a0: &a0 [lol, lol, lol]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(9);
        writeln!(text, "  a{i}: &a{i} [{before}]").unwrap();
    }
    assert_snapshot!(check(&text).1);
}

#[test]
fn a_billion_laughs_by_interpolation_are_refused() {
    let mut text = "params:\n  a0: lollollollol\n".to_owned();
    for i in 1..12 {
        let before = format!("${{params.a{}}}", i - 1).repeat(9);
        writeln!(text, "  a{i}: '{before}'").unwrap();
    }
    text += "stages:\n  one: { kind: evaluate.compare, with: { title: '${params.a11}' } }";
    let began = Instant::now();
    let (_project, ran) = check(&text);
    assert!(began.elapsed().as_secs() < 5);
    assert_snapshot!(ran);
}

#[test]
fn a_matrix_of_millions_is_refused() {
    let (_project, ran) = check(
        "
        params: { many: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }
        stages:
          one:
            kind: exec
            matrix:
              a: '${params.many}'
              b: '${params.many}'
              c: '${params.many}'
              d: '${params.many}'
              e: '${params.many}'
              f: '${params.many}'
              g: '${params.many}'
              h: '${params.many}'
            with: { command: ['true'] }
    ",
    );
    assert_snapshot!(ran);
}

// Keys and names.

#[test]
fn an_unknown_key_is_shown_with_the_nearest() {
    let (_project, ran) = check(
        "
        stagse: {}
        frobnicate: 1
        stages:
          one: { knd: data.synthetic, kind: data.synthetic, with: { task: reviews } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_stage_without_a_kind_is_shown() {
    assert_snapshot!(check("stages:\n  one: { with: { task: reviews } }").1);
}

#[test]
fn a_bad_name_is_shown_with_the_rule() {
    let (_project, ran) = check(
        "
        stages:
          1st: { kind: data.synthetic, with: { task: reviews } }
          a.b: { kind: data.synthetic, with: { task: reviews } }
          c:
            kind: exec
            matrix: { 'x,y': [1] }
            inputs: { ../../escape: p.yaml }
            outputs: { 'an output': out }
            with: { command: ['true'] }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn parts_of_another_type_are_shown() {
    let (_project, ran) = check(
        "
        name: 7
        env: HOME
        params: [1]
        stages:
          one: data.synthetic
          two: { kind: [data.synthetic] }
          three: { kind: data.tokenizer, with: 1, inputs: [one], matrix: 3 }
          four: { kind: exec, outputs: { a: 1 }, with: { command: echo } }
    ",
    );
    assert_snapshot!(ran);
}

// Kinds and their parameters.

#[test]
fn an_unknown_kind_is_shown_with_the_nearest() {
    let (_project, ran) = check(
        "
        stages:
          near: { kind: train.stf }
          far: { kind: make-coffee }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_unknown_parameter_is_shown_with_the_nearest() {
    let (_project, ran) = check(
        "
        stages:
          near: { kind: data.synthetic, with: { task: reviews, lable_noise: 0.1 } }
          far: { kind: data.tokenizer, inputs: { rows: near }, with: { colour: red } }
          run: { kind: exec, with: { comand: [ls], command: [ls] } }
          nested: { kind: data.load, with: { path: p.yaml, format: text, columns: { txt: a } } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_parameter_without_default_must_be_given() {
    assert_snapshot!(check("stages:\n  one: { kind: data.synthetic }").1);
}

#[test]
fn parameters_of_another_type_are_shown() {
    let (_project, ran) = check(
        "
        stages:
          one:
            kind: data.synthetic
            with: { task: reviews, text: 1.5, label_noise: high, seed: -1 }
          two:
            kind: data.tokenizer
            inputs: { rows: one }
            with: { vocab_size: null, special_tokens: [a, 2] }
          three:
            kind: data.load
            with: { path: 3, format: [text], columns: text, file_format: 1 }
          four:
            kind: model.init
            inputs: { tokenizer: two }
            with: { tie_embeddings: 'yes', layers: '3', kv_heads: none }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn parameters_out_of_range_are_shown_with_the_range() {
    let (_project, ran) = check(
        "
        stages:
          one:
            kind: data.synthetic
            with: { task: review, text: 0, mistakes: 1.5, largest: 1000, label_noise: -0.1 }
          two: { kind: model.init, inputs: { tokenizer: one.text }, with: { seed: -1 } }
    ",
    );
    assert_snapshot!(ran);
}

// Wiring.

#[test]
fn an_unknown_input_is_shown_with_the_nearest() {
    let (_project, ran) = check(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews }, inputs: { rows: p.yaml } }
          tokenizer: { kind: data.tokenizer, inputs: { row: rows, rows: rows, colour: rows } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_input_that_a_kind_needs_must_be_given() {
    assert_snapshot!(check("stages:\n  one: { kind: data.tokenizer }").1);
}

#[test]
fn an_unknown_stage_is_shown_where_it_is_named() {
    let (_project, ran) = check(
        "
        stages:
          reviews: { kind: data.synthetic, with: { task: reviews } }
          near: { kind: data.tokenizer, inputs: { rows: reviws.text } }
          far: { kind: data.tokenizer, inputs: { rows: elsewhere } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_unknown_output_is_shown_with_the_nearest() {
    let (_project, ran) = check(
        "
        stages:
          reviews: { kind: data.synthetic, with: { task: reviews } }
          near: { kind: data.tokenizer, inputs: { rows: reviews.txt } }
          far: { kind: data.tokenizer, inputs: { rows: reviews.colour } }
          silent: { kind: exec, with: { command: ['true'] } }
          reader: { kind: data.tokenizer, inputs: { rows: silent } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_unknown_variant_is_shown_with_those_there_are() {
    let (_project, ran) = check(
        "
        stages:
          rows: { kind: data.synthetic, matrix: { noise: [0.1, 0.2] }, with: { task: reviews } }
          plain: { kind: data.synthetic, with: { task: reviews } }
          one: { kind: data.tokenizer, inputs: { rows: 'rows[noise=0.3]' } }
          two: { kind: data.tokenizer, inputs: { rows: 'plain[noise=0.1]' } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_point_that_stands_in_a_matrix_twice_is_shown() {
    let (_project, ran) = check(
        "
        stages:
          rows:
            kind: data.synthetic
            matrix: { noise: [0.1, 0.2, 0.1] }
            with: { task: reviews, label_noise: '${matrix.noise}' }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_port_of_another_type_is_shown_with_both_types() {
    let (_project, ran) = check(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: rows.text } }
          split: { kind: data.split, inputs: { rows: rows.prompts } }
          base: { kind: model.init, inputs: { tokenizer: tokenizer } }
          tune:
            kind: train.sft
            inputs: { model: tokenizer, completions: split.train }
            with: { learning_rate: 1e-3 }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn several_artifacts_do_not_fit_a_port_for_one() {
    let (_project, ran) = check(
        "
        stages:
          rows: { kind: data.synthetic, matrix: { noise: [0.1, 0.2] }, with: { task: reviews } }
          one: { kind: data.tokenizer, inputs: { rows: rows } }
          two: { kind: data.tokenizer, inputs: { rows: ['rows[noise=0.1]', 'rows[noise=0.2]'] } }
          three: { kind: data.tokenizer, inputs: { rows: 'rows[*].text' } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_circle_is_shown_as_its_path() {
    let (_project, ran) = check(
        "
        stages:
          before: { kind: data.synthetic, with: { task: reviews } }
          a: { kind: data.split, inputs: { rows: c } }
          b: { kind: data.split, inputs: { rows: a.test } }
          c: { kind: data.split, inputs: { rows: b } }
          itself: { kind: data.split, inputs: { rows: itself } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_input_names_a_stage_or_a_file() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: data.tokenizer, inputs: { rows: 1 } }
          two: { kind: data.tokenizer, inputs: { rows: { stage: one } } }
    ",
    );
    assert_snapshot!(ran);
}

// Values that are filled in.

#[test]
fn what_cannot_be_filled_in_says_why() {
    let mut project = Project::new(
        "
        env: [DECLARED, SET]
        params: { beta: 0.1, list: [1, 2], round: '${params.about}', about: '${params.round}' }
        stages:
          one:
            kind: exec
            matrix: { size: [1] }
            with:
              command:
                - ${params.bta}
                - ${params.list.7}
                - ${params.beta.deeper}
                - ${matrix.sise}
                - ${env.DECLARED}
                - ${env.OTHER}
                - ${parms.beta}
                - ${something}
                - ${params.round}
                - is ${params.list}
                - ${params.beta
                - ${}
                - ${stage.nam}
                - ${inputs.rows}
    ",
    );
    project.set("SET", "x");
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

// Files.

#[test]
fn a_file_that_is_not_there_is_shown() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: data.load, with: { path: none.jsonl, format: text } }
          two: { kind: data.tokenizer, inputs: { rows: ./none.jsonl } }
          three: { kind: data.tokenizer, inputs: { rows: none.jsonl } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_file_outside_the_folder_is_refused() {
    let project = Project::new(
        "
        stages:
          one: { kind: data.load, with: { path: ../outside.jsonl, format: text } }
          two: { kind: data.load, with: { path: /etc/passwd, format: text } }
          three: { kind: data.load, with: { path: inner/link.jsonl, format: text } }
          four: { kind: data.tokenizer, inputs: { rows: inner/folder/outside.jsonl } }
          five: { kind: data.tokenizer, inputs: { rows: .. } }
          six: { kind: data.load, with: { path: inner/../p.yaml, format: text } }
    ",
    );
    let pipeline = project.read("p.yaml");
    project.write("outside.jsonl", "{}");
    project.write("below/p.yaml", pipeline);
    project.write("below/inner/file", "");
    let link = std::os::unix::fs::symlink::<std::path::PathBuf, _>;
    link(project.path("outside.jsonl"), project.path("below/inner/link.jsonl")).unwrap();
    link(project.path(""), project.path("below/inner/folder")).unwrap();
    assert_snapshot!(project.gradus(&["check", "below/p.yaml"]));
}

#[test]
fn a_file_named_on_the_command_line_may_lie_anywhere() {
    let project = Project::new(
        "
        params: { path: p.yaml }
        stages:
          one: { kind: data.load, with: { path: '${params.path}', format: text } }
    ",
    );
    let pipeline = project.read("p.yaml");
    project.write("below/p.yaml", pipeline);
    project.write("outside.jsonl", "{}");
    let check = |setting: &str| project.gradus(&["check", "below/p.yaml", "--set", setting]);
    assert_eq!(check("path=outside.jsonl").code, Some(0));
    assert_snapshot!(check("path=below.jsonl"));
}

// `exec`.

#[test]
fn mistakes_of_exec_stages_are_shown() {
    let (_project, ran) = check(
        "
        stages:
          both: { kind: exec, with: { command: [ls], shell: ls } }
          none: { kind: exec }
          empty: { kind: exec, with: { command: [] } }
          nested: { kind: exec, with: { command: [ls, [a]], env: { A: [1] } } }
          listed: { kind: exec, with: { command: [ls], env: [A=1] } }
          script: { kind: exec, with: { shell: [ls] } }
          away: { kind: exec, outputs: { a: ../a, b: /b, c: inputs/c }, with: { command: [ls] } }
          typed: { kind: exec, outputs: { a: { path: a, typ: text } }, with: { command: [ls] } }
          wrong: { kind: data.synthetic, outputs: { a: a }, with: { task: reviews } }
    ",
    );
    assert_snapshot!(ran);
}

// The command line.

const ONE: &str = "
    params: { task: reviews, deep: { er: 1 }, text: '' }
    stages:
      one: { kind: data.synthetic, with: { task: '${params.task}' } }
";

#[test]
fn a_setting_must_name_a_parameter() {
    let project = Project::new(ONE);
    let set = ["--set", "tsk=x", "--set", "deep.re=1", "--set", "task.x=1", "--set", "task"];
    assert_snapshot!(project.gradus(&[&["check", "p.yaml"][..], &set].concat()));
}

#[test]
fn a_mistake_in_a_setting_is_shown_in_what_was_typed() {
    let project = Project::new(ONE);
    let set = ["--set", "task=revews", "--set", "deep.er=[1", "--set", "text=!!str a"];
    assert_snapshot!(project.gradus(&[&["check", "p.yaml"][..], &set].concat()));
}

#[test]
fn a_mistake_in_a_parameter_file_is_shown_there() {
    let project = Project::new(ONE);
    project.write("params.yaml", "deep: { er: 2 }\ntask: revews\ntsk: reviews\n");
    let files = ["--params", "params.yaml", "--params", "none.yaml"];
    assert_snapshot!(project.gradus(&[&["check", "p.yaml"][..], &files].concat()));
}

#[test]
fn a_stage_that_is_asked_for_must_be_there() {
    let project = Project::new(ONE);
    assert_snapshot!(project.gradus(&["plan", "p.yaml", "on", "elsewhere"]));
}
