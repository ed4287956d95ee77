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
