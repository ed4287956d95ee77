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

#[test]
fn what_a_stage_asks_of_the_machine_is_checked() {
    let (_project, ran) = check(
        "
        stages:
          one: { kind: exec, resources: { cpu: 2, cpus: 0, gpus: -1, nodes: 1.5, mem: 8, time: late }, with: { command: [ls] } }
          two: { kind: exec, resources: { mem: lots, gpu_type: '', gpus: many }, with: { command: [ls] } }
          three: { kind: exec, resources: 8GiB, with: { command: [ls] } }
          four: { kind: exec, resources: { gpus: 0, gpu_type: H100 }, with: { command: [ls] } }
          five: { kind: data.synthetic, resources: { gpus: 1 }, with: { task: reviews } }
    ",
    );
    assert_snapshot!(ran);
}

#[test]
fn secrets_and_variables_are_named_and_for_programs_alone() {
    let (_project, ran) = check(
        "
        env: [HOME, OPEN]
        stages:
          one:
            kind: exec
            secret: ['${env.HOME}', 'a=b', OPEN, PATH, INPUT_A, TOKEN, TOKEN, SET, 3]
            env: { SET: 1, 'A=B': 1, TWICE: 1, LIST: [1] }
            inputs: { a: p.yaml }
            with: { command: [ls], env: { TWICE: 2 } }
          two: { kind: data.synthetic, secret: TOKEN, env: { A: 1 }, with: { task: reviews } }
          three: { kind: exec, env: [A], with: { command: [ls] } }
    ",
    );
    assert_snapshot!(ran);
}
