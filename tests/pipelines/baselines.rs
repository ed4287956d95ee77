//! The baselines that a method has to beat, from the first stage to the last with the real worker, smaller than they ship.

use crate::{data, metric, project, run};

#[test]
fn a_policy_learns_from_its_right_answers_and_replicates_say_how_sure_that_is() {
    let Some(project) = project("rejection_sampling") else { return };
    let small = ["seeds=[0, 1]", "epochs=2", "samples=4", "rft_steps=8"];
    let settings: Vec<&str> = small.iter().flat_map(|it| ["--set", it]).collect();
    let events = run(&project, &settings);
    for seed in [0, 1] {
        let kept = |name: &str| metric(&events, &format!("runs/right[seed={seed}]"), name);
        assert!(kept("reward") > 0.999 && kept("rows") < kept("rows_before"));
        assert!((kept("reward_before") - kept("rows") / kept("rows_before")).abs() < 1e-9);
    }
    // A mean of two seeds is what both claims and replicates are about.
    let rate = |name: &str| {
        let of =
            |seed| metric(&events, &format!("runs/{name}_evaluation[seed={seed}]"), "true_reward");
        f64::midpoint(of(0), of(1))
    };
    let iqm = metric(&events, "replicates", "rft.iqm");
    assert!((iqm - rate("rft")).abs() < 1e-9, "{iqm}");
    assert!((0.0..=1.0).contains(&metric(&events, "replicates", "rft.improvement")));
    let gain = metric(&events, "learns", "value");
    assert!((gain - (rate("rft") - rate("sft"))).abs() < 1e-9, "{gain}");
    for claim in ["learns", "learns_more_than_by_steps", "knows_more"] {
        assert!((metric(&events, claim, "replicates") - 2.0).abs() < 1e-9);
    }
    let report = project.read(".gradus/outputs/rejection-sampling/replicates.report.md");
    assert!(
        report.contains("| sft (baseline) |") && report.contains("| sft for longer |"),
        "{report}"
    );
}

#[test]
fn the_best_of_n_is_chosen_by_a_learnt_reward_and_held_against_what_it_was_chosen_from() {
    let Some(project) = project("best_of_n") else { return };
    let events = run(&project, &["--set", "epochs=2", "--set", "samples=4"]);
    let chosen = |by: &str, name: &str| metric(&events, &format!("chosen[by={by}]"), name);
    // Nobody chooses better by the truth than the truth does, nor by the score than the score.
    assert!(chosen("true_reward", "true_reward") >= chosen("score", "true_reward"));
    assert!(chosen("score", "score") >= chosen("true_reward", "score"));
    assert!(chosen("score", "score") > metric(&events, "many", "score"));
    // ln 16 − 15/16
    assert!((chosen("score", "kl") - 1.835_089).abs() < 1e-6);
    let lost = metric(&events, "over_optimisation", "best of n.lost");
    assert!((0.0..=1.0).contains(&lost), "{lost}");
    let report = project.read(".gradus/outputs/best-of-n/comparison.report.md");
    assert!(report.contains("| best of 16 |") && report.contains("upper bound"), "{report}");
}

/// So small that it knows what it was shown by heart, and nothing else.
const BY_HEART: [&str; 6] = [
    "data.held_out=8",
    "model={vocab_size: 400, hidden_size: 64, layers: 2, heads: 2, context_length: 320}",
    "sft={learning_rate: 3e-3, batch: 8, epochs: 60}",
    "rft={learning_rate: 5e-4, batch: 8, epochs: 1}",
    "samples=4",
    "max_new_tokens=160",
];

fn learns_questions(rows: &str, more: &[String]) {
    let Some(project) = project("gsm8k") else { return };
    let all = BY_HEART.iter().copied().chain(more.iter().map(String::as_str)).chain([rows]);
    let settings: Vec<&str> = all.flat_map(|it| ["--set", it]).collect();
    let events = run(&project, &settings);
    // Some of its answers are right by the checker, and it learns from these alone.
    assert!((metric(&events, "right", "reward") - 1.0).abs() < 1e-9);
    assert!((metric(&events, "right", "rows") - metric(&events, "rft", "rows")).abs() < 0.5);
    for stage in ["before", "after"] {
        let [once, of_eight] = ["pass_at_1", "pass_at_8"].map(|name| metric(&events, stage, name));
        assert!((0.0..=1.0).contains(&once) && once <= of_eight, "{stage}: {once} {of_eight}");
        assert!((once - metric(&events, stage, "true_reward")).abs() < 1e-9);
        assert!(metric(&events, stage, "prompts") > 0.5);
    }
}

#[test]
fn questions_with_a_checkable_answer_are_learnt_from() {
    learns_questions("data.limit=32", &[]);
}

#[test]
fn questions_that_people_wrote_are_learnt_from() {
    let (Some(train), Some(test)) = (data("gsm8k.train.jsonl"), data("gsm8k.test.jsonl")) else {
        return;
    };
    let files = [train, test].map(|it| it.display().to_string());
    let files = [format!("data.train={}", files[0]), format!("data.test={}", files[1])];
    learns_questions("data.limit=16", &files);
}
