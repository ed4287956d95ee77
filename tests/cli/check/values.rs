//! Values from elsewhere: filled in, from files, from the command line.

use insta::assert_snapshot;

use super::check;
use crate::support::Project;

// Values that go ill together.

#[test]
fn parameters_that_make_no_sense_together_are_shown_at_the_first() {
    let (_project, ran) = check(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: rows } }
          base: { kind: model.init, inputs: { tokenizer: tokenizer }, with: { hidden_size: 20, heads: 3 } }
          dpo:
            kind: policy.dpo
            inputs: { policy: base, preferences: rows.preferences_train }
            with: { learning_rate: 1e-4, loss: ipo, label_smoothing: 0.1, steps: 10, warmup_steps: 50 }
          other:
            kind: policy.dpo
            inputs: { policy: base, preferences: rows.preferences_train }
            with: { learning_rate: 1e-4, loss: exo_pair }
    ",
    );
    assert_snapshot!(ran);
}

// The seed.

#[test]
fn a_seed_is_a_whole_number_and_only_for_kinds_that_draw() {
    let (project, ran) = check(
        "
        seed: lucky
        stages:
          rows: { kind: data.synthetic, with: { task: reviews, seed: 1.5 } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: rows }, with: { seed: 1 } }
    ",
    );
    assert_snapshot!(ran);
    // What a person types wins over the file.
    let ran = project.gradus(&["check", "p.yaml", "--seed", "3"]);
    assert!(!ran.to_string().contains("lucky"), "{ran}");
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
