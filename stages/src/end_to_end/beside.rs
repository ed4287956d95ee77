//! The kinds that are not on the whole way, each once on what that left.

use serde_json::json;

use super::place::Place;

/// All of them, each after what it reads.
pub(super) fn the_way(place: &Place) {
    rows_and_rollouts(place);
    between_stages(place);
    preferences_of_two(place);
    directly(place);
    games(place);
    single_tokens(place);
    conditioned(place);
    beyond_one_number(place);
}

fn rows_and_rollouts(place: &Place) {
    let rows = (0..24).map(
        |i| json!({ "prompt": format!("{i}?"), "chosen": "yes", "rejected": "no", "answer": i }),
    );
    let lines: Vec<_> = rows.map(|row| row.to_string()).collect();
    let path = place.root.join("rows.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    place.run("loaded", "data.load", json!({ "path": path, "format": "preference" }), &[]);
    place.run("parts", "data.split", json!({ "test": 4 }), &["rows=loaded.train"]);
    let tokens = ["rows=parts.train", "tokenizer=bpe.tokenizer"];
    place.run("tokens", "data.tokenize", json!({ "for": "preferences" }), &tokens);
    let sampled = json!({ "samples_per_prompt": 3, "max_new_tokens": 8 });
    place.run("rollouts", "rollout.sample", sampled, &["policy=sft.model", "prompts=data.prompts"]);
    let rewards = json!({
        "rewards": {
            "true": { "from": "true_reward" },
            "score": { "from": "reward_model" },
            "form": { "from": "format", "pattern": "[.]$" },
        },
        "reward": "score + 0.2 * form - 0.001 * tokens",
    });
    let judges =
        ["rollouts=rollouts.rollouts", "true_reward=data.true_reward", "reward_model=rm.model"];
    place.run("judged", "reward.judge", rewards, &judges);
    let best = json!({ "strategy": "best_worst", "truth": "true" });
    let filtered = place.run("filtered", "rollout.filter", best, &["rollouts=judged.rollouts"]);
    assert!((filtered["rows"] - filtered["rows_before"] * 2.0 / 3.0).abs() < 1e-9);
    let tries = json!({ "iterations": 20, "rollouts": 200, "length": 4 });
    let learnt = place.run("table", "tabular.npg", tries, &[]);
    assert!(learnt["success"] > 0.3, "{learnt:?}");
    place.run("paired", "rollout.pairs", json!({}), &["rollouts=judged.rollouts"]);
    let learnt = json!({
        "rewards": { "true": { "from": "true_reward" }, "score": { "from": "reward_model" } },
        "reward": "true + 0.1 * score", "iterations": 2, "prompts_per_iteration": 3, "samples_per_prompt": 4,
        "max_new_tokens": 8, "learning_rate": 1e-4, "minibatch": 6, "micro_batch": 4, "beta": 0.05,
    });
    let inputs = [
        "policy=sft.model",
        "prompts=data.prompts",
        "true_reward=data.true_reward",
        "reward_model=rm.model",
    ];
    let online = place.run("online", "policy.grpo", learnt, &inputs);
    assert!(online["sampler_gap"] < 1e-4 && online["kl"] < 0.1, "{online:?}");
    for (kind, samples) in [("policy.reinforce", 4), ("policy.p3o", 4), ("policy.nft", 4)] {
        let few = json!({
            "rewards": { "score": { "from": "reward_model" } }, "iterations": 2, "prompts_per_iteration": 4,
            "samples_per_prompt": samples, "max_new_tokens": 8, "learning_rate": 1e-3, "minibatch": 8,
            "entropy_weight": 0.01,
        });
        let found = place.run(kind, kind, few, &inputs);
        assert!(found["sampler_gap"] < 1e-4, "{kind}: {found:?}");
    }
    for (kind, more) in [
        ("policy.canon", json!({ "metric": "entropy", "discount": 0.9 })),
        ("policy.empg", json!({ "step_tokens": 3 })),
    ] {
        let mut few = json!({
            "rewards": { "true": { "from": "true_reward" } }, "iterations": 2, "prompts_per_iteration": 4,
            "samples_per_prompt": 4, "max_new_tokens": 8, "learning_rate": 1e-3,
        });
        few.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = place.run(kind, kind, few, &inputs);
        assert!(found["sampler_gap"] < 1e-4, "{kind}: {found:?}");
    }
    let steady = json!({
        "rewards": { "score": { "from": "reward_model" } }, "iterations": 3, "prompts_per_iteration": 8,
        "samples_per_prompt": 4, "max_new_tokens": 8, "learning_rate": 1e-3, "minibatch": 8, "filter": "best_worst",
        "reward_scaling": "normalised", "reward_clip": 0.8, "value_clip": 0.2, "critic_first": 1, "text_weight": 0.1,
    });
    let players = [&inputs[..], &["critic=rm.model", "texts=data.demonstrations"]].concat();
    let found = place.run("steady", "policy.ppo", steady, &players);
    // The best and the worst of four, of eight prompts.
    assert!((found["kept"] - 16.0).abs() < 1e-9 && found["sampler_gap"] < 1e-4, "{found:?}");
    assert!(found["text_loss"] > 0.0 && found["value_loss"] > 0.0, "{found:?}");
    let gained = json!({
        "statement": "DPO gains reward", "metric": "true_reward", "direction": "at_least", "threshold": -9.0,
    });
    let both = ["candidates=after.evaluation", "baseline=before.evaluation"];
    let claim = place.run("claimed", "evaluate.claim", gained, &both);
    assert!(claim["holds"] > 0.5 && claim["replicates"] < 1.5);
    let fast = json!({ "learning_rate": 1e-3, "steps": 2 });
    place.run(
        "best",
        "train.sft",
        fast.clone(),
        &["model=sft.model", "completions=filtered.rollouts"],
    );
    place.run(
        "better",
        "policy.dpo",
        fast,
        &["policy=sft.model", "preferences=paired.preferences"],
    );
    place.run(
        "reference",
        "policy.reference",
        json!({}),
        &["model=sft.model", "preferences=tokens.tokens"],
    );
}

/// What published recipes need between their stages.
fn between_stages(place: &Place) {
    let two = json!({ "pairs": "best_random", "balance_length": true });
    let sides = ["rollouts=judged.rollouts", "against=judged.rollouts"];
    let found = place.run("met", "rollout.pairs", two, &sides);
    assert!(found["pairs"] > 0.0 && found["pairs_left_out"] >= 0.0, "{found:?}");
    let mix = json!({
        "rewards": {
            "score": { "from": "reward_model", "model": "rm.model", "standardise": true },
            "liked": { "from": "reward_model", "model": "rm.model", "probability": true },
        },
        "reward": "score",
    });
    let judges =
        ["rollouts=rollouts.rollouts", "reward_models=rm.model", "yardstick=judged.rollouts"];
    let mixed = place.run("mixed", "reward.judge", mix, &judges);
    // By its own yardstick it is nothing on the whole.
    assert!(mixed["reward"].abs() < 1e-9 && (0.0..1.0).contains(&mixed["liked"]), "{mixed:?}");
    let between = json!({ "reward": "form", "min": 0.0, "max": 1.0 });
    let kept = place.run("solvable", "data.by_pass_rate", between, &["rollouts=judged.rollouts"]);
    assert!((kept["prompts"] - 8.0).abs() < 1e-9, "{kept:?}");
    let souped = json!({ "weights": [3, 1] });
    place.run("soup", "model.average", souped, &["models=sft.model", "models=dpo.model"]);
    let taught = json!({ "learning_rate": 1e-3, "steps": 3, "batch": 8 });
    let inputs = ["policy=sft.model", "teacher=soup.model", "completions=rollouts.rollouts"];
    let found = place.run("taught", "policy.distill", taught, &inputs);
    assert!((found["rows"] - 24.0).abs() < 1e-9, "{found:?}");
}

/// Who prefers which of two, as a judge of rollouts and on the way.
fn preferences_of_two(place: &Place) {
    let pairs = ["preferences=data.preferences_train", "test=data.preferences_test"];
    let fast = json!({ "learning_rate": 1e-3, "steps": 4 });
    let found = place.run(
        "pm",
        "feedback.preference_model",
        fast,
        &["model=sft.model", pairs[0], pairs[1]],
    );
    assert!(found["test_calibration_error"] < 0.5, "{found:?}");
    let win = json!({ "rewards": {
        "win": { "from": "preference_model" },
        "over": { "from": "preference_model", "against": "opponents" },
    }, "reward": "win + over" });
    let inputs = ["preference_model=pm.model", "opponents=rollouts.rollouts"];
    let judged = [&["rollouts=rollouts.rollouts"], &inputs[..]].concat();
    let found = place.run("preferred", "reward.judge", win.clone(), &judged);
    // Whoever wins, another loses, and against oneself one is even.
    assert!((found["win"] - 0.5).abs() < 1e-6 && (found["over"] - 0.5).abs() < 1e-6, "{found:?}");
    let mut few = json!({
        "iterations": 2, "prompts_per_iteration": 4, "samples_per_prompt": 4, "max_new_tokens": 8,
        "learning_rate": 1e-3,
    });
    few.as_object_mut().unwrap().extend(win.as_object().unwrap().clone());
    let players = [&["policy=sft.model", "prompts=data.prompts"], &inputs[..]].concat();
    let found = place.run("winning", "policy.grpo", few, &players);
    assert!((found["reward.win"] - 0.5).abs() < 1e-6, "{found:?}");
}

/// Who learns from pairs without a reference, and from completions by themselves.
fn directly(place: &Place) {
    let fast = json!({ "learning_rate": 1e-3, "steps": 6, "batch": 8 });
    let pairs = ["preferences=data.preferences_train", "test=data.preferences_test"];
    for kind in ["policy.cpl", "policy.cpo", "policy.simpo", "policy.orpo"] {
        let inputs = [&["policy=sft.model"], &pairs[..]].concat();
        let found = place.run(kind, kind, fast.clone(), &inputs);
        assert!(found["test_rows"] > 0.0 && found.contains_key("test_accuracy"), "{found:?}");
    }
    for (name, params) in [
        ("liked", json!({ "label": "reward", "threshold": -0.01, "negatives_per_positive": 1 })),
        ("valued", json!({ "label": "reward", "target": "value" })),
    ] {
        let mut given = fast.clone();
        given.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let inputs = ["model=sft.model", "completions=judged.rollouts", "test=judged.rollouts"];
        let found = place.run(name, "feedback.pointwise", given, &inputs);
        let quality = if name == "liked" { "test_auroc" } else { "test_r_squared" };
        assert!(found[quality].is_finite() && found["test_rows"] > 23.0, "{found:?}");
    }
    let of_pairs = ["policy=sft.model", "feedback=data.preferences_train"];
    let found = place.run("policy.kto", "policy.kto", fast.clone(), &of_pairs);
    assert!((found["balance"] - 1.0).abs() < 1e-9, "{found:?}");
    let mut judged = fast;
    judged["label"] = json!("reward");
    judged["threshold"] = json!(-0.01);
    let of_rollouts = ["policy=sft.model", "feedback=judged.rollouts"];
    let found = place.run("labelled", "policy.kto", judged, &of_rollouts);
    assert!((found["desirable"] + found["undesirable"] - 24.0).abs() < 1e-9, "{found:?}");
}

/// Who plays games of preferences.
fn games(place: &Place) {
    let table = place.run("in a table", "tabular.nash", json!({ "iterations": 200 }), &[]);
    assert!(table["gap"] < 0.01 && table["gap"] > 0.0, "{table:?}");
    let few = json!({ "task": "cycles", "text": 1, "demonstrations": 400, "preferences": 1, "test_preferences": 1 });
    place.run("circle", "data.synthetic", few, &[]);
    let (shape, letters) = (
        json!({ "hidden_size": 32, "layers": 1, "context_length": 32 }),
        json!({ "vocab_size": 258 }),
    );
    place.run("alphabet", "data.tokenizer", letters, &["rows=circle.demonstrations"]);
    place.run("small", "model.init", shape, &["tokenizer=alphabet.tokenizer"]);
    let fast = json!({ "learning_rate": 1e-2, "epochs": 4, "batch": 16 });
    let inputs = ["model=small.model", "completions=circle.demonstrations"];
    place.run("player", "train.sft", fast, &inputs);
    let gap = |name: &str, policy: &str| {
        let policy = format!("policy={policy}");
        let inputs = [
            &policy,
            "reference=player.model",
            "prompts=circle.prompts",
            "true_reward=circle.true_reward",
        ];
        place.run(name, "evaluate.duality_gap", json!({}), &inputs)
    };
    let before = gap("gap before", "player.model");
    assert!(before["kl"].abs() < 1e-9 && before["elsewhere"] < 0.2, "{before:?}");
    for rival in [json!({ "mixture": 0.25 }), json!({ "rival": "average", "average": 0.5 })] {
        let mut params = json!({
            "rewards": { "win": { "from": "true_preference", "against": "rival" } }, "iterations": 40,
            "prompts_per_iteration": 4, "samples_per_prompt": 16, "max_new_tokens": 4, "learning_rate": 4e-3,
            "evaluate_every": 20, "schedule": "linear",
        });
        params.as_object_mut().unwrap().extend(rival.as_object().unwrap().clone());
        let inputs = [
            "policy=player.model",
            "prompts=circle.prompts",
            "test=circle.prompts",
            "true_reward=circle.true_reward",
        ];
        let name = format!("nash {rival}");
        let found = place.run(&name, "policy.nash_md", params, &inputs);
        assert!(found["sampler_gap"] < 1e-4 && found["reward"] > 0.3, "{found:?}");
        let after = gap(&format!("gap after {rival}"), &format!("{name}.model"));
        assert!(after["gap"] < before["gap"], "{rival}: {after:?} {before:?}");
    }
    for kind in ["policy.inpo", "policy.online_dpo", "policy.xpo"] {
        let params = json!({
            "rewards": { "win": { "from": "true_preference" } }, "iterations": 4, "prompts_per_iteration": 4,
            "samples_per_prompt": 16, "max_new_tokens": 4, "learning_rate": 1e-2, "epochs": 4,
        });
        let inputs =
            ["policy=player.model", "prompts=circle.prompts", "true_reward=circle.true_reward"];
        let found = place.run(kind, kind, params, &inputs);
        assert!(found["sampler_gap"] < 1e-4 && found["accuracy"] > 0.4, "{kind}: {found:?}");
    }
    let alone = json!({
        "rewards": { "win": { "from": "true_preference" } }, "iterations": 1, "learning_rate": 1e-2,
    });
    let inputs =
        ["policy=player.model", "prompts=circle.prompts", "true_reward=circle.true_reward"];
    let error = place.tried("alone", "policy.nash_md", alone, &inputs).unwrap_err();
    assert!(error.contains("no reward is held `against: rival`"), "{error}");
}

/// Pretraining by what segments are worth, and a model that is asked for what is good.
fn conditioned(place: &Place) {
    let few = json!({ "task": "foul", "text": 200, "demonstrations": 1, "preferences": 1, "test_preferences": 1 });
    place.run("foul", "data.synthetic", few, &[]);
    let by_rule =
        json!({ "ends": "[.]", "lead": "^[0-5]", "word": "[a-zA-Z]", "unwanted": "[A-Z]" });
    let found = place.run("scored", "data.score", by_rule, &["text=foul.text"]);
    assert!((found["segments"] - 800.0).abs() < 1e-9 && found["below_best"] > 0.2, "{found:?}");
    let by_truth = json!({ "ends": "[.]", "lead": "^[0-5]" });
    let inputs = ["text=foul.text", "true_reward=foul.true_reward"];
    let same = place.run("truly scored", "data.score", by_truth, &inputs);
    assert!((found["reward"] - same["reward"]).abs() < 1e-9, "{same:?}");
    let from = ["text=scored.text"];
    let good = json!({ "threshold": 0, "drop": 0.1 });
    let found = place.run("annotated", "data.annotate", good, &from);
    assert!((0.05..0.15).contains(&found["dropped"]), "{found:?}");
    let clean = json!({ "quantile": 0.5, "pattern": "^[0-5]" });
    let found = place.run("clean", "data.filter", clean, &from);
    assert!(found["rows_kept"] > 0.4 && found["rows_kept"] < 0.9, "{found:?}");
    let own = json!({ "vocab_size": 260, "special_tokens": ["<|aligned|>", "<|misaligned|>"] });
    place.run("spelling", "data.tokenizer", own, &["rows=foul.text"]);
    let shape = json!({ "hidden_size": 32, "layers": 1, "context_length": 64 });
    place.run("unread", "model.init", shape, &["tokenizer=spelling.tokenizer"]);
    let goals = [
        ("annotated", json!({})),
        ("scored", json!({ "objective": "unlikelihood" })),
        ("scored", json!({ "objective": "reward_weighted", "beta": 0.5 })),
        ("scored", json!({ "objective": "advantage_weighted", "beta": 0.5 })),
    ];
    for (at, (text, goal)) in goals.into_iter().enumerate() {
        let mut params = json!({ "learning_rate": 1e-2, "batch": 8, "epochs": 2 });
        params.as_object_mut().unwrap().extend(goal.as_object().unwrap().clone());
        let inputs = ["model=unread.model", &format!("text={text}.text"), "test=foul.text"];
        let found = place.run(&format!("read {at}"), "train.pretrain", params, &inputs);
        assert!(found["test_loss"] < 5.5, "{goal}: {found:?}");
    }
    let steered = json!({
        "samples_per_prompt": 4, "max_new_tokens": 16,
        "steering": { "control": "<|aligned|>", "after": "[.]$", "forbid": ["<|misaligned|>"] },
    });
    let inputs = ["policy=read 0.model", "prompts=foul.prompts"];
    let found = place.run("steered", "rollout.sample", steered, &inputs);
    assert!((found["samples"] - 24.0).abs() < 1e-9, "{found:?}");
    let asked =
        json!({ "uncounted": ["<|aligned|>", "<|misaligned|>"], "masked": ["<|endoftext|>"] });
    let inputs = ["model=read 0.model", "text=annotated.text"];
    let found = place.run("likely", "evaluate.likelihood", asked, &inputs);
    assert!(found["nll"] > 1.0 && found["tokens"] > 5000.0, "{found:?}");
}

/// What a policy thinks of single letters, and what a search by it finds.
fn single_tokens(place: &Place) {
    let few = json!({ "task": "chains", "text": 1, "demonstrations": 8000, "preferences": 4000, "test_preferences": 1, "label_noise": 1 });
    place.run("chains", "data.synthetic", few, &[]);
    let shape = json!({ "hidden_size": 32, "layers": 1, "context_length": 16 });
    place.run("unspelt", "model.init", shape, &["tokenizer=alphabet.tokenizer"]);
    let fast = json!({ "learning_rate": 1e-2, "batch": 64, "epochs": 3 });
    let inputs = ["model=unspelt.model", "completions=chains.demonstrations"];
    place.run("speller", "train.sft", fast, &inputs);
    let fast = json!({ "learning_rate": 5e-3, "batch": 64, "beta": 0.5 });
    let inputs = ["policy=speller.model", "preferences=chains.preferences_train"];
    place.run("spelt", "policy.dpo", fast, &inputs);
    let inputs = [
        "policy=spelt.model",
        "reference=speller.model",
        "prompts=chains.prompts",
        "true_reward=chains.true_reward",
    ];
    let found = place.run("credit", "evaluate.credit", json!({ "beta": 0.5 }), &inputs);
    assert!(found["advantage_correlation"] > found["reward_correlation"], "{found:?}");
    assert!(found["identity_gap"] < 1e-6 && found["elsewhere"] < 0.5, "{found:?}");
    let inputs = ["policy=spelt.model", "prompts=chains.prompts", "true_reward=chains.true_reward"];
    let rewards = [1, 4].map(|beams| {
        let params = json!({ "temperature": 0, "max_new_tokens": 8, "beams": beams });
        let found = place.run(&format!("{beams} beams"), "evaluate.policy", params, &inputs);
        found["true_reward"]
    });
    // What is found is of the form, or it would be worth -10.
    assert!(rewards[1] > -9.0, "{rewards:?}");
}

/// What is said of evaluations and curves that are there.
fn beyond_one_number(place: &Place) {
    let both = ["candidates=after.evaluation", "baseline=before.evaluation"];
    let seeds = json!({ "metric": "true_reward" });
    let found = place.run("over_seeds", "evaluate.replicates", seeds, &both);
    assert!(found.contains_key("after.evaluation.improvement"), "{found:?}");
    let bands = json!({ "score": "score", "truth": "true", "bands": 4 });
    let found = place.run("bands", "evaluate.reliability", bands, &["rollouts=judged.rollouts"]);
    assert!(found["correlation"].abs() <= 1.0 && found["calibration_error"] > 0.0, "{found:?}");
    let goes_with = json!({ "x": "score", "y": "true" });
    let three =
        ["candidates=judged.rollouts", "candidates=filtered.rollouts", "candidates=online.samples"];
    let found = place.run("goes with", "evaluate.correlation", goes_with.clone(), &three);
    assert!(found["pearson"].abs() <= 1.0 && found["candidates"] > 2.5, "{found:?}");
    let few = place.tried("too few", "evaluate.correlation", goes_with, &three[..2]).unwrap_err();
    assert!(few.contains("fewer than three"), "{few}");
    let two = json!({ "n": 2 });
    let best =
        place.run("best_of_two", "evaluate.best_of_n", two, &["evaluation=before.evaluation"]);
    assert!((best["kl"] - (2.0_f64.ln() - 0.5)).abs() < 1e-9, "{best:?}");
    for from in ["before.evaluation", "rollouts.rollouts"] {
        let candidates = format!("candidates={from}");
        let found = place.run(
            &format!("variety of {from}"),
            "evaluate.diversity",
            json!({}),
            &[&candidates],
        );
        assert!(found[&format!("{from}.distinct_1")] > 0.0, "{found:?}");
    }
    let named = json!({ "proxy": "reward.score", "truth": "reward.true" });
    let lines = ["curves=online.curve", "best_of_n=before.evaluation"];
    let found = place.run("overshot", "evaluate.over_optimisation", named, &lines);
    assert!(found["online.curve.lost"] >= 0.0 && found["before.evaluation.lost"] >= 0.0);
    let found = place.run(
        "matrix",
        "evaluate.win_matrix",
        json!({}),
        &["candidates=after.evaluation", "candidates=before.evaluation"],
    );
    let of = |one: &str, other: &str| found[&format!("{one}.evaluation over {other}.evaluation")];
    assert!((of("after", "before") + of("before", "after") - 1.0).abs() < 1e-9, "{found:?}");
    let judged = place.run(
        "judged matrix",
        "evaluate.win_matrix",
        json!({ "by": "preference_model" }),
        &[
            "candidates=after.evaluation",
            "candidates=before.evaluation",
            "preference_model=pm.model",
        ],
    );
    assert!(judged["after.evaluation over before.evaluation at equal length"].is_finite());
    let told = json!({ "about": "All of it.", "labels": { "after.evaluation": "dpo" }, "metrics": ["reward"] });
    let parts = [
        "candidates=after.evaluation",
        "candidates=before.evaluation",
        "baseline=before.evaluation",
        "claims=claimed.claim",
        "curves=online.curve",
        "plots=overshot.plot",
        "tables=overshot.table",
        "reports=claimed.report",
    ];
    let found = place.run("page", "evaluate.report", told, &parts);
    assert!((found["policies"] - 2.0).abs() < 1e-9 && (found["claims"] - 1.0).abs() < 1e-9);
    let answers = json!({ "column": "answer" });
    let found = place.run("checker", "reward.answers", answers, &["prompts=loaded.train"]);
    assert!((found["prompts"] - 24.0).abs() < 1e-9);
}
