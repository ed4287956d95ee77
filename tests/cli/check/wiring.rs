//! What stages take from each other.

use insta::assert_snapshot;

use super::check;

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
          three: { kind: data.tokenizer, inputs: { rows: [] } }
    ",
    );
    assert_snapshot!(ran);
}
