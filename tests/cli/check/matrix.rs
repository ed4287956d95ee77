//! Points of a matrix that are left out or added.

use insta::assert_snapshot;

use super::check;
use crate::support::Project;

#[test]
fn entries_of_exclude_and_include_are_held_to_the_axes() {
    let (_project, ran) = check(
        "
        stages:
          nothing:
            kind: exec
            matrix: { beta: [0.1, 0.5], rate: [1, 2], exclude: [{ beta: 0.2 }, { beta: 0.1, rate: 3 }] }
            with: { command: ['true'] }
          twice:
            kind: exec
            matrix: { beta: [0.1, 0.5], exclude: [{ beta: 0.1 }, { beta: 0.10 }] }
            with: { command: ['true'] }
          all:
            kind: exec
            matrix: { beta: [0.1], exclude: [{ beta: 0.1 }] }
            with: { command: ['true'] }
          unknown:
            kind: exec
            matrix: { beta: [0.1, 1], exclude: [{ bta: 0.1 }], include: [{ beta: 3, rate: 1 }] }
            with: { command: ['true'] }
          lacking:
            kind: exec
            matrix: { beta: [0.1], rate: [1], include: [{ beta: 0.5 }] }
            with: { command: ['true'] }
          there:
            kind: exec
            matrix: { beta: [0.1, 0.5], include: [{ beta: 0.5 }] }
            with: { command: ['true'] }
          axes:
            kind: exec
            matrix: { include: [a, b], exclude: c }
            with: { command: ['true'] }
    ",
    );
    assert_snapshot!(ran);
}

/// The stages of a sound pipeline, in order.
fn stages(matrix: &str) -> Vec<String> {
    let project = Project::new(&format!(
        "
        params: {{ lost: [{{ rate: 1, beta: 0.5 }}] }}
        stages:
          a:
            kind: exec
            matrix: {matrix}
            with: {{ command: [echo, '${{matrix.beta}}'] }}
    "
    ));
    let graph = project.gradus(&["graph", "p.yaml", "--format", "json"]).json();
    let stages = graph["stages"].as_array().unwrap().iter();
    stages.map(|it| it["stage"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn excluded_points_are_not_there_and_included_ones_come_last() {
    assert_eq!(
        stages("{ beta: [0.1, 0.5], rate: [1, 2], exclude: '${params.lost}' }"),
        ["a[beta=0.1,rate=1]", "a[beta=0.1,rate=2]", "a[beta=0.5,rate=2]"]
    );
    assert_eq!(
        stages(
            "{ exclude: [{ beta: 0.1 }], beta: [0.1, 0.5], include: [{ rate: 9, beta: 3 }], rate: [1.0] }"
        ),
        ["a[beta=0.5,rate=1.0]", "a[beta=3,rate=9]"]
    );
}

#[test]
fn points_may_be_listed_alone() {
    assert_eq!(
        stages("{ include: [{ beta: 1, rate: 2 }, { rate: 4, beta: 3 }] }"),
        ["a[beta=1,rate=2]", "a[beta=3,rate=4]"]
    );
}
