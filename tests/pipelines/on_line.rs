//! Pipelines in which a policy learns from what it does, from the first stage to the last with the real worker, as small as
//! they go.

use crate::{metric, project, run};

#[test]
fn three_rounds_of_dpo_run_through_and_each_learns_from_the_one_before() {
    let Some(project) = project("iterated_dpo") else { return };
    let ran = project.gradus(&["rehearse", "p.yaml", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for round in 1..=3 {
        for stage in ["rollouts", "judged", "pairs", "dpo"] {
            let name = format!("\"again/{stage}[round={round}]\"");
            assert!(ran.stdout.contains(&name), "{name}");
        }
    }
    // One round more: what the others did is there.
    let more = project.gradus(&["rehearse", "p.yaml", "--set", "rounds=4", "--format", "json"]);
    let events: Vec<serde_json::Value> =
        more.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ran: Vec<&str> = events
        .iter()
        .filter(|it| it["event"] == "finished")
        .filter_map(|it| it["stage"].as_str())
        .collect();
    let expected = ["rollouts", "judged", "pairs", "dpo"].map(|it| format!("again/{it}[round=4]"));
    assert_eq!(ran, expected);
}

#[test]
fn a_policy_learns_on_line_from_a_learnt_reward() {
    let Some(project) = project("grpo") else { return };
    let ran = project.gradus(&["rehearse", "p.yaml", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let events = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut events = events.filter(|it: &serde_json::Value| it["event"] == "finished");
    let learnt = events.find(|it| it["stage"] == "grpo").unwrap();
    let gap = learnt["metrics"]["sampler_gap"].as_f64().unwrap();
    assert!(gap < 1e-4, "sampler and trainer differ: {gap}");
}

#[test]
fn a_policy_talks_to_a_critic_while_it_learns_and_when_it_is_measured() {
    let Some(project) = project("critic") else { return };
    let events = run(&project, &["--set", "iterations=20", "--set", "turns=3"]);
    let learnt = |name: &str| metric(&events, "learnt", name);
    assert!(learnt("sampler_gap") < 1e-4 && learnt("turns") > 1.0 && learnt("turns") <= 3.0);
    assert!(learnt("test_reward.given") >= 0.0);
    for policy in ["sft", "learnt"] {
        let talking = |name: &str| metric(&events, &format!("{policy}_talking"), name);
        // The critic looks at the last number, the true reward at the only one.
        assert!(talking("environment") >= talking("true_reward") - 1e-9);
        assert!(talking("turns") > 1.0);
    }
}
