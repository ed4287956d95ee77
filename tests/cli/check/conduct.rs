//! Keys that say whether a stage is there and how it is carried out.

use insta::assert_snapshot;

use super::check;

#[test]
fn what_says_how_a_stage_runs_is_checked() {
    let (_project, ran) = check(
        "
        params: { never: no }
        stages:
          one: { kind: exec, cache: '${params.never}', retries: 11, timeout: soon, with: { command: [ls] } }
          two: { kind: exec, cache: 1, retries: 1.5, timeout: 0, with: { command: [ls] } }
          three: { kind: exec, retries: -1, timeout: [1], retires: 1, with: { command: [ls] } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_condition_that_is_none_is_shown() {
    let (_project, ran) = check(
        "
        params: { size: 3, list: [1] }
        stages:
          one: { kind: exec, when: '${params.size}', with: { command: [ls] } }
          two: { kind: exec, when: [], with: { command: [ls] } }
          three: { kind: exec, when: { value: '${params.size}', is: large }, with: { command: [ls] } }
          four: { kind: exec, when: { value: 3, is: 3, not: 4 }, with: { command: [ls] } }
          five: { kind: exec, when: { vlaue: 3, is: 3 }, with: { command: [ls] } }
          six: { kind: exec, when: { value: '${params.list}', is: 1 }, with: { command: [ls] } }
          seven: { kind: exec, when: '${params.sise}', with: { command: [ls] } }
          eight: { kind: exec, when: { is: 3 }, with: { command: [ls] } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn an_input_from_a_stage_that_is_left_out_is_shown() {
    let (_project, ran) = check(
        "
        stages:
          off: { kind: exec, when: false, outputs: { a: a }, with: { command: [ls] } }
          some:
            kind: exec
            matrix: { beta: [1, 2] }
            when: { value: '${matrix.beta}', is: 1 }
            outputs: { a: a }
            with: { command: [ls] }
          one: { kind: exec, inputs: { a: off, b: 'some[beta=2].a', c: 'off[*]', d: 'some[*]' }, with: { command: [ls] } }
          two: { kind: evaluate.compare, inputs: { candidates: ['off[*]'] } }
          three: { kind: exec, when: false, inputs: { a: off }, with: { command: [ls] } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn a_stage_that_is_left_out_cannot_be_asked_for() {
    let (project, _) = check("stages: { a: { kind: exec, when: false, with: { command: [ls] } } }");
    assert_snapshot!(project.gradus(&["run", "p.yaml", "a"]));
}
