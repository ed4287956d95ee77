//! Keys, names, kinds and their parameters.

use insta::assert_snapshot;

use super::check;
use crate::support::Project;

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
    assert_snapshot!(
        check("stages:\n  one: { with: { task: reviews } }\n  two:\ntemplates: { t: }").1
    );
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
fn keys_of_a_map_are_free_and_its_values_are_checked() {
    let (_project, ran) = check(
        "
        params: { name: dpo }
        stages:
          made:
            kind: exec
            outputs: { evaluation: { path: evaluation.json, type: evaluation } }
            with: { shell: 'true' }
          sound:
            kind: evaluate.compare
            inputs: { candidates: made }
            with: { labels: { made: '${params.name}', any/thing: sft } }
          broken:
            kind: evaluate.compare
            inputs: { candidates: made }
            with: { labels: { made: 3, other: [sft] } }
          none:
            kind: evaluate.compare
            inputs: { candidates: made }
            with: { labels: dpo }
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
          alike: { kind: exec, inputs: { a-b: p.yaml, a_b: p.yaml }, with: { command: [ls] } }
          filled: { kind: exec, outputs: { a: '${params.a}' }, with: { command: [ls] } }
          typed: { kind: exec, outputs: { a: { path: a, typ: text } }, with: { command: [ls] } }
          wrong: { kind: data.synthetic, outputs: { a: a }, with: { task: reviews } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn rows_come_from_one_place() {
    let project = Project::new(
        "
        stages:
          a: { kind: data.load, with: { format: text } }
          b: { kind: data.load, inputs: { file: rows.txt }, with: { format: text, path: rows.txt } }
          d: { kind: data.load, inputs: { file: rows.txt }, with: { format: text } }
    ",
    );
    project.write("rows.txt", "");
    assert_snapshot!(project.gradus(&["check", "p.yaml"]).stderr);
}
