//! Pipelines of papers, from the first stage to the last claim with the real worker, over two seeds and as small as they go.
//! Whether claims hold is another matter: `make papers`.

use serde_json::Value;

use super::paper;

/// Rehearses the paper's pipeline: each of its claims must come to a number over both seeds.
fn comes_to_its_claims(name: &str, claims: usize) {
    claims_come_of(name, &["rehearse"], claims);
}

fn claims_come_of(name: &str, words: &[&str], claims: usize) {
    let Some(project) = paper(name) else { return };
    let all = ["p.yaml", "--set", "seeds=[0, 1]", "--format", "json"];
    let ran = project.gradus(&[words, &all[..]].concat());
    assert_eq!(ran.code, Some(0), "{ran}");
    let events = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let finished: Vec<Value> = events.filter(|it: &Value| it["event"] == "finished").collect();
    let reached = finished.iter().filter(|it| it["metrics"].get("holds").is_some());
    let reached: Vec<&Value> = reached.collect();
    assert_eq!(reached.len(), claims, "{reached:#?}");
    for claim in reached {
        let metrics = &claim["metrics"];
        assert_eq!(metrics["replicates"], 2.0, "{claim}");
        assert!(metrics["value"].as_f64().is_some_and(f64::is_finite), "{claim}");
    }
}

#[test]
fn negative_aware_fine_tuning() {
    comes_to_its_claims("07-nft", 3);
}

#[test]
fn pretraining_with_preferences() {
    // Hardly trained, a policy that is asked for what is clean may say nothing that is foul, and nothing can be divided by that.
    let small = [
        "run",
        "--set",
        "steps=4",
        "--set",
        "late_steps=2",
        "--set",
        "most_steps=2",
        "--set",
        "last_steps=2",
        "--set",
        "samples=4",
        "--set",
        "warmup=0",
        "--set",
        "half_warmup=0",
        "--set",
        "last_warmup=0",
    ];
    claims_come_of("03-phf", &small, 18);
}

#[test]
fn learning_from_user_feedback() {
    // Hearts are rare: a policy that knows less, or is asked less often, may get none.
    let small = [
        "run",
        "--set",
        "iterations=1",
        "--set",
        "logged=1500",
        "--set",
        "later=1000",
        "--set",
        "tried=100",
        "--set",
        "demonstrations=12800",
        "--set",
        "pairs=200",
        "--set",
        "habits=200",
    ];
    claims_come_of("04-rluf", &small, 15);
}

#[test]
fn conditional_advantages() {
    comes_to_its_claims("18-canon", 7);
}

#[test]
fn pairwise_policy_optimisation() {
    comes_to_its_claims("23-p3o", 9);
}

#[test]
fn policy_filtration() {
    // A policy that was hardly trained is never right, and there is no R² of a truth that is always the same.
    claims_come_of("24-pf-ppo", &["run", "--set", "iterations=1"], 12);
}

#[test]
fn entropy_modulation() {
    comes_to_its_claims("36-empg", 4);
}

#[test]
fn token_level_dpo() {
    let small = ["rehearse", "--set", "lengths=[1, 2]", "--set", "first=1", "--set", "last=2"];
    claims_come_of("26-from-r-to-q", &small, 10);
}

#[test]
fn ppo_max() {
    comes_to_its_claims("37-ppo-max", 4);
}

#[test]
fn dataset_resets() {
    claims_come_of("48-dr-po", &["rehearse", "--set", "lock_seeds=[0, 1]"], 13);
}

#[test]
fn nash_learning() {
    let small = ["rehearse", "--set", "table_seeds=[0, 1]", "--set", "measure_every=1"];
    claims_come_of("39-nash", &small, 10);
}

#[test]
fn iterative_nash_policy_optimisation() {
    comes_to_its_claims("10-inpo", 10);
}
