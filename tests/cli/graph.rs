//! `gradus graph`: the stages and what they take from each other.

use insta::assert_snapshot;

use crate::support::Project;

fn project() -> Project {
    let project = Project::new(
        "
        name: the \"graph\"
        params: { test: [0.1, 0.2] }
        stages:
          reviews: { kind: data.synthetic, with: { task: reviews } }
          rows: { kind: data.load, with: { path: rows.jsonl, format: text } }
          split:
            kind: data.split
            matrix: { test: '${params.test}' }
            inputs: { rows: reviews.prompts }
            with: { test: '${matrix.test}' }
          count:
            kind: exec
            matrix: { mark: ['\"'] }
            inputs: { rows: 'split[test=0.1].test', more: ./rows.jsonl }
            outputs: { size: size }
            with: { shell: 'wc -c < inputs/rows > size' }
    ",
    );
    project.write("rows.jsonl", "");
    project
}

#[test]
fn a_graph_is_a_list_for_people() {
    assert_snapshot!(project().gradus(&["graph", "p.yaml"]));
}

#[test]
fn a_graph_is_written_for_mermaid() {
    assert_snapshot!(project().gradus(&["graph", "p.yaml", "--as", "mermaid"]));
}

#[test]
fn a_graph_is_written_for_graphviz() {
    assert_snapshot!(project().gradus(&["graph", "p.yaml", "--as", "dot"]));
}

#[test]
fn a_graph_is_a_value_for_programs() {
    assert_snapshot!(project().gradus(&["graph", "p.yaml", "--format", "json"]));
}
