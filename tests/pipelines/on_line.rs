//! Pipelines in which a policy learns from what it does, from the first stage to the last with the real worker, as small as
//! they go.

use super::project;

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
