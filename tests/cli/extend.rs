//! A longer training goes on from a shorter one, and a plan says so beforehand.

use insta::assert_snapshot;

use crate::support::Project;

fn training(steps: usize, schedule: &str) -> String {
    format!(
        "
        stages:
          rows: {{ kind: data.synthetic, with: {{ task: reviews }} }}
          tokenizer: {{ kind: data.tokenizer, inputs: {{ rows: rows.text }} }}
          init: {{ kind: model.init, inputs: {{ tokenizer: tokenizer }} }}
          base:
            kind: train.pretrain
            inputs: {{ model: init, text: rows.text }}
            with: {{ learning_rate: 1e-3, steps: {steps}, schedule: {schedule} }}
        "
    )
}

/// What a plan for more (or fewer) steps says after a run of 1,000.
fn after_a_thousand(schedule: &str, steps: usize, settings: &str) -> String {
    let project = Project::new(&training(1000, schedule));
    project.write("gradus.toml", settings);
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    project.pipeline(&training(steps, schedule));
    let plan = project.gradus(&["plan", "p.yaml"]).stdout;
    plan.lines().find(|line| line.contains("base")).unwrap().to_owned()
}

#[test]
fn a_plan_says_where_a_longer_training_goes_on_from() {
    assert_snapshot!(after_a_thousand("constant", 2000, ""), @"base       train.pretrain  would run  because of steps 1000 → 2000; goes on from step 1000");
}

#[test]
fn a_shorter_training_has_nothing_to_go_on_from() {
    assert_snapshot!(after_a_thousand("constant", 500, ""), @"base       train.pretrain  would run  because of steps 1000 → 500");
}

#[test]
fn a_schedule_that_depends_on_the_length_begins_anew() {
    assert_snapshot!(after_a_thousand("linear", 2000, ""), @"base       train.pretrain  would run  because of steps 1000 → 2000");
}

#[test]
fn no_state_is_kept_where_the_project_says_so() {
    assert_snapshot!(after_a_thousand("constant", 2000, "[checkpoint]\nkeep_last = false\n"), @"base       train.pretrain  would run  because of steps 1000 → 2000");
}

#[test]
fn for_programs_the_step_is_a_number() {
    let project = Project::new(&training(1000, "constant"));
    project.gradus(&["run", "p.yaml"]);
    project.pipeline(&training(2000, "constant"));
    let plan = project.gradus(&["plan", "p.yaml", "--format", "json"]).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["stages"][3]["goes_on_from"], 1000);
    let explained = project.gradus(&["explain", "p.yaml", "base", "--format", "json"]).stdout;
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["goes_on_from"], 1000);
}

#[test]
fn what_is_forced_begins_anew() {
    let project = Project::new(&training(1000, "constant"));
    project.gradus(&["run", "p.yaml"]);
    project.pipeline(&training(2000, "constant"));
    let events = project.events(&["--force"]);
    let started = events.of("started").find(|event| event["stage"] == "base").unwrap();
    assert_eq!(started.get("goes_on_from"), None);
}

#[test]
fn of_several_lengths_the_shortest_runs_first() {
    let matrix = "kind: train.pretrain\n            matrix: { n: [3000, 1000, 2000] }";
    let pipeline = training(1, "constant").replace("kind: train.pretrain", matrix);
    let pipeline = pipeline.replace("steps: 1,", "steps: '${matrix.n}',");
    let project = Project::new(&pipeline);
    let events = project.events(&["--slots", "3"]);
    let started = events.of("started").filter_map(|it| it["stage"].as_str());
    let of_base: Vec<_> = started.filter(|stage| stage.starts_with("base")).collect();
    assert_eq!(of_base, ["base[n=1000]", "base[n=2000]", "base[n=3000]"]);
    let from = events.of("started").filter_map(|it| it["goes_on_from"].as_u64());
    assert_eq!(from.collect::<Vec<_>>(), [1000, 2000]);
}
