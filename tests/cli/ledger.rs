//! What is computed row by row is kept: new rows, or a try after a crash, pay for what is new only.

use insta::assert_snapshot;

use crate::support::Project;

/// Answers each row, says in a file beside the project which it was given, and dies at a row `boom`.
const JUDGE: &str = "
import os, sys
with open(os.environ['OUTPUT_JUDGED'], 'w') as out, open(os.environ['SEEN'], 'a') as seen:
    for row in open(os.environ['INPUT_ROWS']):
        seen.write(row)
        if row.startswith('boom') and not os.path.exists(os.environ['SEEN'] + '.calm'):
            sys.exit(3)
        out.write('judged ' + row)
        out.flush()
";

fn project(rows: &str) -> Project {
    let project = Project::new("");
    let pipeline = format!(
        "
stages:
  judged:
    kind: exec
    inputs: {{ rows: ./rows.txt, script: ./judge.py }}
    outputs: {{ judged: judged.txt }}
    rows: {{ rows: judged }}
    env: {{ SEEN: '{}' }}
    with: {{ command: [python3, '${{inputs.script}}'] }}
",
        project.path("seen").display()
    );
    project.write("p.yaml", &pipeline);
    project.write("judge.py", JUDGE);
    project.write("rows.txt", rows);
    project
}

/// What the program was given this time.
fn given(project: &Project) -> String {
    let seen = std::fs::read_to_string(project.path("seen")).unwrap_or_default();
    let _ = std::fs::remove_file(project.path("seen"));
    seen
}

fn judged(project: &Project) -> String {
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let _ = std::fs::remove_dir_all(project.path("out"));
    project.gradus(&["export", "p.yaml", "judged", "out"]);
    project.read("out/judged")
}

#[test]
fn a_program_is_given_only_rows_that_nobody_has_judged() {
    let project = project("a\nb\na\n");
    assert_eq!(judged(&project), "judged a\njudged b\njudged a\n");
    assert_eq!(given(&project), "a\nb\n");
    project.write("rows.txt", "c\nb\nd\na\n");
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]), @"
    exit code 0
    --- stdout
    judged  exec  would run  because of input rows from rows.txt fb918ac9 → 3e877048; rows that it has seen are kept
    ");
    assert_eq!(judged(&project), "judged c\njudged b\njudged d\njudged a\n");
    assert_eq!(given(&project), "c\nd\n");
    // Nothing is new: the program is not even started.
    project.write("rows.txt", "d\nc\n");
    assert_eq!(judged(&project), "judged d\njudged c\n");
    assert_eq!(given(&project), "");
    let ran = project.gradus(&["run", "p.yaml", "--force"]);
    assert_eq!((ran.code, given(&project).as_str()), (Some(0), "d\nc\n"));
    // Another judge has judged nothing yet.
    project.write("judge.py", format!("{JUDGE}\n# better"));
    judged(&project);
    assert_eq!(given(&project), "d\nc\n");
}

#[test]
fn a_crash_costs_the_row_at_which_it_was() {
    let project = project("a\nb\nboom\nc\n");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(given(&project), "a\nb\nboom\n");
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]), @"
    exit code 0
    --- stdout
    judged  exec  would run  never ran to its end here; goes on from 2 of 4 rows
    ");
    project.write("seen.calm", "");
    assert_eq!(judged(&project), "judged a\njudged b\njudged boom\njudged c\n");
    assert_eq!(given(&project), "boom\nc\n");
}

#[test]
fn who_leaves_another_number_of_lines_is_told() {
    let project = project("a\nb\n");
    project
        .write("judge.py", "import os\nopen(os.environ['OUTPUT_JUDGED'], 'w').write('one\\n')\n");
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
}

#[test]
fn rows_that_cannot_be_are_shown_where_they_are() {
    let project = Project::new(
        "
        stages:
          list: { kind: exec, inputs: { a: ./r }, outputs: { b: b }, rows: [a], with: { shell: 'true' } }
          lost: { kind: exec, inputs: { a: ./r }, outputs: { b: b }, rows: { c: b }, with: { shell: 'true' } }
          two: { kind: exec, inputs: { a: ./r }, outputs: { b: b, c: c }, rows: { a: b }, with: { shell: 'true' } }
          folder: { kind: exec, inputs: { a: ./r }, outputs: { b: b/ }, rows: { a: b }, with: { shell: 'true' } }
          measured: { kind: exec, inputs: { a: ./r }, outputs: { b: b }, metrics: m, rows: { a: b }, with: { shell: 'true' } }
          kind: { kind: data.synthetic, rows: { a: b } }
    ",
    );
    project.write("r", "row");
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}
