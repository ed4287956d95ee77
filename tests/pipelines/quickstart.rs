//! `pipelines/quickstart.yaml`: from made-up rows to a policy that gained true reward.

use crate::{assert_as_before, assert_as_shipped, metric, outputs, project, run};

#[test]
fn the_quickstart_aligns_a_model_and_gives_the_same_bytes_in_another_cache() {
    let Some(one) = project("quickstart") else { return };
    let events = run(&one, &[]);
    assert!(events.cached().is_empty());
    assert!(metric(&events, "reward_model", "test_accuracy_low") > 0.6);
    assert!(metric(&events, "dpo", "test_accuracy_low") > 0.5);
    let gain = metric(&events, "dpo_evaluation", "true_reward")
        - metric(&events, "sft_evaluation", "true_reward");
    assert!(gain > 0.2, "DPO gained {gain}");
    assert!(metric(&events, "dpo_evaluation", "win_rate_true_reward_low") > 0.5);
    assert_as_before("quickstart", &events);
    assert_as_shipped(&one, "quickstart", &[]);

    let again = run(&one, &[]);
    assert!(again.ran().is_empty(), "{:?}", again.ran());

    let changed = one.gradus(&["plan", "p.yaml", "--set", "beta=0.3", "--format", "json"]).json();
    let stages = changed["stages"].as_array().unwrap().iter();
    let touched: Vec<_> =
        stages.filter(|it| it["state"] != "cached").map(|it| &it["stage"]).collect();
    assert_eq!(touched, ["dpo", "dpo_evaluation", "comparison"]);

    let log = one.gradus(&["logs", "p.yaml", "dpo"]).stdout;
    assert!(log.contains("begins") && log.contains(" steps  loss "), "{log}");

    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let copy = format!(".gradus/outputs/quickstart/dpo.model/{file}");
        assert!(one.path(&copy).is_file(), "{copy}");
    }
    let report = one.read(".gradus/outputs/quickstart/comparison.report.md");
    for part in ["| dpo |", "| sft (baseline) |", "nats per completion", "## Samples"] {
        assert!(report.contains(part), "{part}");
    }

    let other = project("quickstart").unwrap();
    assert_eq!(outputs(&run(&other, &[])), outputs(&events));
}

#[test]
fn a_rehearsal_runs_every_stage_with_the_real_worker_and_so_does_a_new_project() {
    let Some(project) = project("quickstart") else { return };
    let rehearsed = project.gradus(&["rehearse", "p.yaml", "--format", "json"]);
    assert!(rehearsed.stdout.contains(r#""ran":10,"cached":0,"failed":0"#), "{rehearsed}");
    assert_eq!(project.gradus(&["init", "new"]).code, Some(0));
    let rehearsed = project.gradus(&["rehearse", "new/pipeline.yaml", "--format", "json"]);
    assert!(rehearsed.stdout.contains(r#""ran":9,"cached":0,"failed":0"#), "{rehearsed}");
}

#[test]
fn what_a_program_made_is_taken_in_and_read_by_kinds() {
    let pipeline = "
        stages:
          reviews: { kind: data.synthetic, with: { task: reviews, text: 50, demonstrations: 20, preferences: 4, test_preferences: 4, prompts: 4 } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: reviews.text } }
          init: { kind: model.init, inputs: { tokenizer: tokenizer }, with: { hidden_size: 8, layers: 1, heads: 2 } }
          made:
            kind: exec
            inputs: { model: init, rows: ./rows.jsonl }
            outputs: { rows: { path: rows.jsonl, type: completions }, model: { path: out/, type: model } }
            with: { shell: 'cp -r inputs/model out; cp inputs/rows rows.jsonl' }
          sft: { kind: train.sft, inputs: { model: made.model, completions: made.rows }, with: { learning_rate: 1e-3, steps: 1 } }
    ";
    let Some(project) = crate::project_of(pipeline) else { return };
    project.write("rows.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    project.write("rows.jsonl", "{\"prompt\": \"a\"}\n");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert!(ran.stderr.contains("the output `rows` is no `completions`: "), "{ran}");
}
