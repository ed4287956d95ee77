//! Learning on-line, whole: what is broken off goes on to the same bytes, and what a method promises holds.

use std::path::Path;

use serde_json::{Value, json};

use super::place::{Place, small_world};
use crate::nn::tensors::read_tensors;

#[test]
fn an_on_line_training_that_is_broken_off_goes_on_to_the_same_bytes() {
    let rows: Vec<Value> = (0..12)
        .map(|i| json!({ "prompt": format!("{i}?"), "chosen": "yes", "rejected": "no" }))
        .collect();
    let (folder, place) = small_world(&rows, &json!({}));
    let trained = |name: &str, iterations: usize, kept: Option<&str>| {
        let params = json!({
            "rewards": { "form": { "from": "format", "pattern": "[a-m]" } }, "iterations": iterations,
            "prompts_per_iteration": 5, "samples_per_prompt": 4, "max_new_tokens": 6, "learning_rate": 1e-2,
            "minibatch": 10, "micro_batch": 3, "epochs": 2, "beta": 0.1, "evaluate_every": 2, "keep": "best",
        });
        *place.checkpoints.borrow_mut() = kept.map(|it| folder.path().join(it));
        let inputs = ["policy=fresh.model", "prompts=data.train", "test=data.train"];
        let found = place.run(name, "policy.grpo", params, &inputs);
        assert!([2.0, 4.0].contains(&found["best_step"]), "{found:?}");
        let model = std::fs::read(folder.path().join(format!("{name}.model/model.safetensors")));
        let curve = std::fs::read_to_string(folder.path().join(format!("{name}.curve")));
        (model.unwrap(), curve.unwrap())
    };
    let whole = trained("whole", 5, None);
    trained("first", 2, Some("kept"));
    // Passes over the prompts, noise and rates stand where they stood.
    let again = trained("again", 5, Some("kept"));
    assert!(whole.0 == again.0, "other weights");
    assert_eq!(whole.1, again.1);
    assert_eq!(whole.1.lines().count(), 5);
}

#[test]
fn policy_and_critic_go_on_from_where_they_were_broken_off_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let made = json!({ "task": "arithmetic", "text": 60, "demonstrations": 60, "preferences": 8, "prompts": 16 });
    place.run("data", "data.synthetic", made, &[]);
    place.run("tok", "data.tokenizer", json!({ "vocab_size": 300 }), &["rows=data.text"]);
    let shape = json!({ "hidden_size": 32, "layers": 2, "heads": 2, "context_length": 48 });
    place.run("fresh", "model.init", shape, &["tokenizer=tok.tokenizer"]);
    let inputs = [
        "policy=fresh.model",
        "prompts=data.prompts",
        "true_reward=data.true_reward",
        "texts=data.demonstrations",
    ];
    // All that a state has to hold: two models, a running mean of one, moments of rewards, an adapted coefficient, and passes
    // over prompts and texts.
    let trained = |name: &str, iterations: usize, kept: Option<&str>| {
        let params = json!({
            "rewards": { "right": { "from": "true_reward" } }, "reward": "right - 0.01 * tokens", "iterations": iterations,
            "prompts_per_iteration": 7, "samples_per_prompt": 3, "max_new_tokens": 6, "learning_rate": 1e-3,
            "minibatch": 5, "micro_batch": 2, "epochs": 2, "filter": "best_random", "reward_scaling": "normalised",
            "kl_target": 0.01, "kl_horizon": 100, "average": 0.9, "text_weight": 0.2, "critic_first": 1,
            "samples_every": 2, "samples_kept": 2,
        });
        *place.checkpoints.borrow_mut() = kept.map(|it| folder.path().join(it));
        place.run(name, "policy.ppo", params, &inputs);
        let file =
            |path: &str| std::fs::read(folder.path().join(format!("{name}.{path}"))).unwrap();
        [
            file("model/model.safetensors"),
            file("critic/model.safetensors"),
            file("curve"),
            file("samples/rows.jsonl"),
        ]
    };
    let whole = trained("whole", 5, None);
    trained("first", 1, Some("kept"));
    trained("second", 3, Some("kept"));
    let again = trained("again", 5, Some("kept"));
    assert!(whole[..2] == again[..2], "other weights");
    for text in [2, 3] {
        assert_eq!(String::from_utf8_lossy(&whole[text]), String::from_utf8_lossy(&again[text]));
    }
    // Two of the first, third and fifth iteration.
    assert_eq!(String::from_utf8_lossy(&whole[3]).lines().count(), 6);
}

/// A world of letters that is made twice, with other settings of what does not change its rows.
fn letters(task: &str, other: &Value) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let made = |more: &Value| {
        let mut params = json!({
            "task": task, "text": 1, "demonstrations": 64, "preferences": 1, "test_preferences": 1, "prompts": 512,
        });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    place.run("data", "data.synthetic", made(&json!({})), &[]);
    place.run("other", "data.synthetic", made(other), &[]);
    let bytes = json!({ "vocab_size": 258 });
    place.run("bytes", "data.tokenizer", bytes, &["rows=data.demonstrations"]);
    let shape = json!({ "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 32 });
    place.run("fresh", "model.init", shape, &["tokenizer=bytes.tokenizer"]);
    (folder, place)
}

#[test]
fn whoever_learns_from_pairs_feels_nothing_that_a_prompt_adds_to_its_rewards() {
    let (folder, place) = letters("copies", &json!({ "shift": 5.0 }));
    let learnt = |name: &str, by: &str, clipped: &str, scaling: &str| {
        let params = json!({
            "rewards": { "proxy": { "from": "proxy" }, "truth": { "from": "true_reward" } }, "reward": "proxy",
            "iterations": 3, "prompts_per_iteration": 8, "samples_per_prompt": 4, "max_new_tokens": 6,
            "learning_rate": 3e-3, "epochs": 2, "minibatch": 8, "micro_batch": 4, "clipped": clipped, "reward_scaling": scaling,
        });
        let judge = format!("true_reward={by}.true_reward");
        let inputs = ["policy=fresh.model", "prompts=data.prompts", &judge];
        let found = place.run(name, "policy.p3o", params, &inputs);
        let path = folder.path().join(format!("{name}.model/model.safetensors"));
        (found, read_tensors(&path, |_, _| Ok(true)).unwrap())
    };
    for (clipped, scaling) in [("each", "none"), ("difference", "none"), ("each", "running")] {
        let name = format!("{clipped} {scaling}");
        let (plain, weights) = learnt(&name, "data", clipped, scaling);
        let (shifted, others) = learnt(&format!("{name} shifted"), "other", clipped, scaling);
        assert!((plain["reward.proxy"] - shifted["reward.proxy"]).abs() > 0.1, "no shift");
        let apart = weights.iter().zip(&others).map(|((_, a), (_, b))| (a - b).abs().max());
        let most = apart.map(|it| it.double_value(&[])).fold(0.0, f64::max);
        assert_eq!(most < 1e-3, scaling == "none", "{name}: weights are {most} apart");
    }
}

#[test]
fn completions_begin_within_what_others_have_said() {
    let (folder, place) =
        letters("keys", &json!({ "demonstrators": "masters", "demonstrations": 200 }));
    let learnt = |name: &str, share: f64, more: &[&str]| {
        let params = json!({
            "rewards": { "truth": { "from": "true_reward" } }, "iterations": 2, "prompts_per_iteration": 12,
            "samples_per_prompt": 4, "max_new_tokens": 9, "learning_rate": 1e-3, "reset_share": share,
        });
        let inputs = ["policy=fresh.model", "prompts=data.prompts", "true_reward=data.true_reward"];
        let found = place.run(name, "policy.ppo", params, &[&inputs[..], more].concat());
        let weights = folder.path().join(format!("{name}.model/model.safetensors"));
        (found, std::fs::read(weights).unwrap())
    };
    let resets = ["resets=other.demonstrations"];
    let (always, _) = learnt("always", 1.0, &resets);
    let (never, plain) = learnt("never", 0.0, &resets);
    // A policy that knows nothing does not find a key, but within a master's reply it may be at its end.
    assert!(always["reward"] > never["reward"] && never["reward"] < 1e-9, "{always:?}");
    assert!(always["tokens"] < never["tokens"]);
    // Never is plain PPO, to the bit.
    assert!(plain == learnt("plain", 0.0, &[]).1);
}

/// Questions with answers, of which a policy that knows nothing gets few right.
fn sums() -> (tempfile::TempDir, Place) {
    let row = |i: u32| json!({ "prompt": format!("{i}:"), "chosen": "1", "rejected": "2", "answer": i % 3 });
    small_world(&(0..12).map(row).collect::<Vec<_>>(), &json!({}))
}

fn rows_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path.join("rows.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_conversation_is_sampled_judged_learnt_from_and_evaluated_turn_by_turn() {
    let (folder, place) = sums();
    let critic = json!({ "from": "critic", "turns": 3, "again": "{critique}" });
    let inputs = ["policy=fresh.model", "prompts=data.train"];
    let sampled = json!({ "samples_per_prompt": 4, "max_new_tokens": 3, "environment": critic });
    let found = place.run("talks", "rollout.sample", sampled.clone(), &inputs);
    assert!(found["turns"] > 1.5 && found["turns"] <= 3.0, "{found:?}");
    let talks = rows_of(&folder.path().join("talks.rollouts"));
    for talk in &talks {
        let turns = talk["turns"].as_array().unwrap();
        let (last, before) = turns.split_last().unwrap();
        // Who is right hears nothing more.
        assert!(before.iter().all(|it| it["reward"] == 0.0 && it["observation"].is_string()));
        assert_eq!(last["reward"] == 1.0, last["observation"].is_null());
        let spans = talk["rollout"]["spans"].as_array().unwrap();
        let of = |author: &str| spans.iter().filter(|it| it["author"] == author).count();
        assert_eq!((of("policy"), of("environment")), (turns.len(), turns.len() - 1));
        let said: String = turns.iter().map(|it| it["reply"].as_str().unwrap()).collect();
        assert!(talk["completion"].as_str().unwrap().len() >= said.len());
    }
    // Rewards are of the last thing that was said, or of the whole.
    let rewards = json!({
        "rewards": { "world": { "from": "environment" }, "right": { "from": "answer", "column": "answer" } },
        "reward": "world - 0.1 * turns",
    });
    let judged = place.run("judged", "reward.judge", rewards, &["rollouts=talks.rollouts"]);
    assert!((judged["world"] - judged["right"]).abs() < 1e-12, "{judged:?}");
    let asked = json!({ "samples_per_prompt": 2, "max_new_tokens": 3, "environment": critic, "pass_at": [2] });
    let evaluated = [&inputs[..], &["reference=fresh.model"]].concat();
    let evaluated = place.run("evaluated", "evaluate.policy", asked, &evaluated);
    assert!(evaluated["kl"].abs() < 1e-6 && evaluated["turns"] > 1.0, "{evaluated:?}");
    assert!(evaluated["pass_at_2"] >= evaluated["environment"]);
    for (kind, samples) in [("policy.grpo", 4), ("policy.ppo", 2)] {
        let learnt = json!({
            "rewards": { "world": { "from": "environment" } }, "reward": "world - 0.1 * turns", "environment": critic,
            "iterations": 2, "prompts_per_iteration": 6, "samples_per_prompt": samples, "max_new_tokens": 3,
            "learning_rate": 1e-3,
        });
        let found = place.run(kind, kind, learnt, &inputs);
        // What the trainer thinks of every reply is what the sampler thought, whatever was said in between.
        assert!(found["sampler_gap"] < 1e-4 && found["turns"] > 1.0, "{kind}: {found:?}");
    }
}

/// Wants a reply with a letter from the first half of the alphabet, and says how many it has heard.
const WORLD: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    said = {"id": it["id"]}
    if it["call"] == "reset":
        said["observation"] = ">"
    else:
        heard = len(it["turns"]) + 1
        good = any("a" <= c <= "m" for c in it["reply"])
        said |= {"observation": f"{heard}>", "reward": float(good), "columns": {"heard": heard}}
    print(json.dumps(said), flush=True)
"#;

/// A reply is worth the share of its letters that are small.
const JUDGE: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    text = it["completion"]
    print(json.dumps({"id": it["id"], "reward": sum(c.islower() for c in text) / max(len(text), 1)}), flush=True)
"#;

#[test]
fn programs_are_worlds_and_judges_and_a_training_with_them_goes_on_to_the_same_bytes() {
    let (folder, place) = sums();
    std::fs::write(folder.path().join("world"), WORLD).unwrap();
    std::fs::write(folder.path().join("judge"), JUDGE).unwrap();
    let inputs = ["policy=fresh.model", "prompts=data.train", "environment=world", "judge=judge"];
    let trained = |name: &str, iterations: usize, kept: Option<&str>| {
        let params = json!({
            "environment": { "from": "program", "turns": 2 },
            "rewards": {
                "world": { "from": "environment" }, "small": { "from": "program" },
                "heard": { "from": "column", "column": "heard" },
            },
            "reward": "world + small + 0.1 * heard", "iterations": iterations, "prompts_per_iteration": 4,
            "samples_per_prompt": 3, "max_new_tokens": 4, "learning_rate": 1e-2,
        });
        *place.checkpoints.borrow_mut() = kept.map(|it| folder.path().join(it));
        let found = place.run(name, "policy.ppo", params, &inputs);
        let weights = folder.path().join(format!("{name}.model/model.safetensors"));
        (found, std::fs::read(weights).unwrap())
    };
    let (found, whole) = trained("whole", 3, None);
    // All talk for two turns, of which the program has heard.
    assert!((found["turns"] - 2.0).abs() < 1e-9 && (found["reward.heard"] - 2.0).abs() < 1e-9);
    assert!(found["reward.small"] > 0.0 && found["sampler_gap"] < 1e-4, "{found:?}");
    let opening = &rows_of(&folder.path().join("whole.samples"))[0];
    assert!(opening["completion"].as_str().unwrap().starts_with('>'), "{opening}");
    trained("first", 1, Some("kept"));
    assert!(whole == trained("again", 3, Some("kept")).1, "other weights");
}
