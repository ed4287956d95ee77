//! Values from elsewhere: filled in, from files, from the command line.

use insta::assert_snapshot;

use super::check;
use crate::support::Project;

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
