//! What is wrong with a text before anybody asks what it means.

use std::{fmt::Write, time::Instant};

use insta::assert_snapshot;

use super::check;

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
    assert_snapshot!(check(&format!("params: {{ a: [\n{}] }}", " 1,\n".repeat(210_000))).1);
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

#[test]
fn a_long_value_for_thousands_of_stages_is_refused() {
    let word = "x".repeat(100_000);
    let numbers: Vec<_> = (0..10_000).map(|i| format!("{i},")).collect();
    let numbers = numbers.concat();
    let each = format!(
        "params:
  long: {word}
  many: [{numbers}]
stages:
  one:
    kind: exec
    matrix: {{ n: '${{params.many}}' }}
    with: {{ command: [echo, '${{params.long}}'] }}
"
    );
    let began = Instant::now();
    assert_snapshot!(check(&each).1);
    let points = each.replace("n: '${params.many}'", "l: ['${params.long}'], n: '${params.many}'");
    assert_snapshot!(check(&points).1);
    assert!(began.elapsed().as_secs() < 10);
}
