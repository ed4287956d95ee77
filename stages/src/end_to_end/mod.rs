//! The whole way from made-up rows to a policy that has learnt from feedback, stage by stage.

mod on_line;
mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};

use place::{Place, bytes_below, files_below, small_world};

use crate::families::stages;

/// How large the world, the model and the effort are.
struct Scale {
    rows: usize,
    prompts: usize,
    hidden: usize,
    layers: usize,
    /// Passes of pretraining, fine-tuning, reward model and policy.
    epochs: [f64; 4],
}

type Summaries = BTreeMap<String, BTreeMap<String, f64>>;

fn whole_way(place: &Place, scale: &Scale) -> Summaries {
    let Scale { rows, prompts, hidden, layers, epochs } = *scale;
    let mut found = BTreeMap::new();
    let mut run = |name: &str, kind: &str, params: Value, inputs: &[&str]| {
        found.insert(name.to_owned(), place.run(name, kind, params, inputs));
    };
    let made = json!({
        "task": "reviews", "text": rows, "demonstrations": rows, "preferences": rows,
        "test_preferences": 64 + rows / 10, "prompts": prompts,
    });
    run("data", "data.synthetic", made, &[]);
    run("bpe", "data.tokenizer", json!({ "vocab_size": 512 }), &["rows=data.text"]);
    let shape = json!({ "hidden_size": hidden, "layers": layers, "context_length": 256 });
    run("fresh", "model.init", shape, &["tokenizer=bpe.tokenizer"]);
    let fast = json!({ "learning_rate": 3e-3, "epochs": epochs[0], "batch": 8 });
    run("base", "train.pretrain", fast, &["model=fresh.model", "text=data.text"]);
    let fast = json!({ "learning_rate": 2e-3, "epochs": epochs[1] });
    let inputs = ["model=base.model", "completions=data.demonstrations"];
    run("sft", "train.sft", fast, &inputs);
    let pairs = ["preferences=data.preferences_train", "test=data.preferences_test"];
    let inputs = ["model=sft.model", pairs[0], pairs[1]];
    let fast = json!({ "learning_rate": 1e-3, "epochs": epochs[2] });
    run("rm", "feedback.reward_model", fast, &inputs);
    let gentle = json!({ "learning_rate": 3e-4, "epochs": epochs[3], "beta": 0.1 });
    run("dpo", "policy.dpo", gentle, &["policy=sft.model", pairs[0], pairs[1]]);
    let sample = json!({ "samples_per_prompt": 4, "max_new_tokens": 64 });
    let judges = [
        "prompts=data.prompts",
        "reference=sft.model",
        "reward_model=rm.model",
        "true_reward=data.true_reward",
        "completions=data.preferences_test",
    ];
    let before = [&["policy=sft.model"], judges.as_slice()].concat();
    run("before", "evaluate.policy", sample.clone(), &before);
    let after = ["policy=dpo.model", "baseline=before.evaluation"];
    run("after", "evaluate.policy", sample, &[&after, judges.as_slice()].concat());
    let named = json!({ "labels": { "after.evaluation": "dpo", "before.evaluation": "sft" } });
    let both = ["candidates=after.evaluation", "baseline=before.evaluation"];
    run("compared", "evaluate.compare", named, &both);
    found
}

/// The kinds that are not on the way.
fn beside_the_way(place: &Place) {
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
    for kind in ["policy.cpo", "policy.simpo", "policy.orpo"] {
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
    for kind in ["policy.inpo", "policy.online_dpo"] {
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

/// What is said of evaluations and curves that are there.
fn beyond_one_number(place: &Place) {
    let both = ["candidates=after.evaluation", "baseline=before.evaluation"];
    let seeds = json!({ "metric": "true_reward" });
    let found = place.run("over_seeds", "evaluate.replicates", seeds, &both);
    assert!(found.contains_key("after.evaluation.improvement"), "{found:?}");
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
    let answers = json!({ "column": "answer" });
    let found = place.run("checker", "reward.answers", answers, &["prompts=loaded.train"]);
    assert!((found["prompts"] - 24.0).abs() < 1e-9);
}

#[test]
fn every_kind_gives_the_same_bytes_again() {
    let scale = Scale { rows: 48, prompts: 8, hidden: 32, layers: 2, epochs: [1.0; 4] };
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let found = whole_way(&place, &scale);
        beside_the_way(&place);
        preferences_of_two(&place);
        directly(&place);
        games(&place);
        beyond_one_number(&place);
        (bytes_below(folder.path()), found, place.ran.into_inner())
    };
    let ((first, found, ran), (second, ..)) = (once(), once());
    let all: BTreeSet<String> = stages().map(|it| it.name.to_owned()).collect();
    assert_eq!(ran, all, "every kind ran");
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
    let differ: Vec<_> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert!(found["before"]["kl"].abs() < 1e-6);
    assert!(found["after"]["kl"] > 0.0);
    assert!((found["compared"]["best_reward"] - found["after"]["true_reward"]).abs() < 1e-12);
}

/// A small model with a context of 64 tokens, which are bytes, and what `data.load` makes of `rows`.
const TRAINED: [(&str, &str, &str); 3] = [
    ("train.sft", "model=fresh.model", "completions=data.train"),
    ("feedback.reward_model", "model=fresh.model", "preferences=data.train"),
    ("policy.dpo", "policy=fresh.model", "preferences=data.train"),
];

#[test]
fn rows_that_are_too_long_are_counted_and_comparisons_treat_them_alike() {
    let reply = |letter: &str, length: usize| letter.repeat(length);
    let row = |prompt: usize, chosen: usize, rejected: usize| {
        let [prompt, chosen, rejected] =
            [reply("p", prompt), reply("c", chosen), reply("r", rejected)];
        json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
    };
    // With the token that ends a text, 64 fit: the first pair just does.
    let rows = [row(10, 53, 53), row(10, 54, 1), row(10, 1, 60), row(64, 1, 1)];
    let (_folder, place) = small_world(&rows, &json!({}));
    let count = |(kind, model, data): (&str, &str, &str), too_long: Option<&str>| {
        let mut params = json!({ "learning_rate": 1e-3, "steps": 1 });
        too_long.inspect(|word| params["too_long"] = json!(word));
        let name = format!("{kind} {}", too_long.unwrap_or_default());
        let summary = place.run(&name, kind, params, &[model, data, "test=data.train"]);
        let counts = |side: &str| {
            ["rows", "rows_dropped", "rows_cut"]
                .map(|name| summary[&format!("{side}{name}")].to_string())
        };
        assert_eq!(counts(""), counts("test_"), "{kind}");
        counts("").join(" ")
    };
    let [sft, reward_model, dpo] = TRAINED;
    assert_eq!(count(sft, None), "3 1 1");
    assert_eq!(count(sft, Some("drop")), "2 2 0");
    assert_eq!(count(reward_model, None), "1 3 0");
    assert_eq!(count(dpo, None), "1 3 0");
    assert_eq!(count(reward_model, Some("cut")), "3 1 2");
    assert_eq!(count(dpo, Some("cut")), "3 1 2");
}

#[test]
fn rows_to_test_on_are_read_before_training_begins() {
    let rows = [json!({ "prompt": "a", "chosen": "b", "rejected": "c" })];
    let (_folder, place) = small_world(&rows, &json!({}));
    for (kind, model, data) in TRAINED {
        // So many steps that the test would not end if one were taken first.
        let params = json!({ "learning_rate": 1e-3, "steps": 100_000_000 });
        let error = place.tried(kind, kind, params, &[model, data, "test=data.test"]).unwrap_err();
        insta::allow_duplicates!(
            insta::assert_snapshot!(error, @"`test` has no rows: set `test` of `data.load`, which is 0 by default, or leave the input out")
        );
    }
    let params = json!({ "learning_rate": 1e-3, "steps": 1, "use_margin": true });
    let (kind, model, data) = TRAINED[1];
    let error = place.tried("margins", kind, params, &[model, data]).unwrap_err();
    insta::assert_snapshot!(error, @"`use_margin` is true, and the rows of `preferences` have no `margin`");
    let long = json!({ "learning_rate": 1e-3, "steps": 1, "max_length": 2 });
    let error = place.tried("long", kind, long, &[model, data]).unwrap_err();
    insta::assert_snapshot!(error, @"no row of `preferences` fits into 2 tokens: raise `max_length`");
}

#[test]
fn rows_tokenised_once_teach_what_rows_as_text_teach() {
    let row = |i: u8| {
        let [prompt, chosen, rejected] = [char::from(b'A' + i), 'c', 'r']
            .map(|letter| letter.to_string().repeat(1 + usize::from(i)));
        json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
    };
    let rows: Vec<Value> = (0..40).map(row).collect();
    let (folder, place) = small_world(&rows, &json!({ "test": 8 }));
    for purpose in ["text", "completions", "preferences"] {
        for side in ["train", "test"] {
            let inputs = [format!("rows=data.{side}"), "tokenizer=fresh.model".to_owned()];
            let [rows, tokenizer] = &inputs;
            place.run(
                &format!("{purpose}-{side}"),
                "data.tokenize",
                json!({ "for": purpose }),
                &[rows, tokenizer],
            );
        }
    }
    let pretrain = ("train.pretrain", "model=fresh.model", "text=data.train");
    for (kind, model, data) in [pretrain].into_iter().chain(TRAINED) {
        let mut params = json!({ "learning_rate": 1e-3, "epochs": 1, "batch": 4 });
        if kind != "train.pretrain" {
            params["max_length"] = json!(40);
        }
        let port = data.split_once('=').unwrap().0;
        let given = |from: &str| {
            let name = format!("{kind} on {from}");
            let [data, test] = ["train", "test"].map(|side| match from {
                "text" => format!("data.{side}"),
                _ => format!("{port}-{side}.tokens"),
            });
            let inputs = [format!("{port}={data}"), format!("test={test}"), model.to_owned()];
            let summary =
                place.run(&name, kind, params.clone(), &inputs.each_ref().map(String::as_str));
            let curve =
                std::fs::read_to_string(folder.path().join(format!("{name}.curve"))).unwrap();
            (summary, curve)
        };
        assert_eq!(given("text"), given("tokens"), "{kind}");
    }
    let (kind, model, _) = TRAINED[0];
    let params = json!({ "learning_rate": 1e-3, "steps": 1 });
    let error = place.tried("odd", kind, params, &[model, "completions=preferences-train.tokens"]);
    assert!(error.unwrap_err().contains("`for: completions` is needed"));
}

#[test]
fn what_stands_in_the_ledger_is_not_computed_and_changes_no_byte() {
    let rows: Vec<Value> = (0..70)
        .map(|i| json!({ "prompt": format!("{i}?"), "chosen": "yes", "rejected": "no" }))
        .collect();
    let (folder, place) = small_world(&rows, &json!({ "test": 6 }));
    let score = json!({ "learning_rate": 1e-3, "steps": 1 });
    place.run(
        "rm",
        "feedback.reward_model",
        score.clone(),
        &["model=fresh.model", "preferences=data.train"],
    );
    place.run("dpo", "policy.dpo", score, &["policy=fresh.model", "preferences=data.train"]);
    let ledger = folder.path().join("ledger");
    let entries = || files_below(&ledger);
    let evaluated = |name: &str, prompts: usize, kept: bool| {
        *place.ledger.borrow_mut() = kept.then(|| ledger.clone());
        let params = json!({ "prompts": prompts, "samples_per_prompt": 2, "max_new_tokens": 6, "batch": 16 });
        let inputs = [
            "policy=dpo.model",
            "reference=fresh.model",
            "reward_model=rm.model",
            "prompts=data.train",
        ];
        let summary = place.run(name, "evaluate.policy", params, &inputs);
        let text = std::fs::read(folder.path().join(format!("{name}.evaluation"))).unwrap();
        (summary, text)
    };
    let alone = [evaluated("few", 20, false), evaluated("more", 30, false)];
    assert_eq!(entries(), 0);
    assert!(evaluated("few kept", 20, true) == alone[0]);
    let few = entries();
    assert!(evaluated("few again", 20, true) == alone[0]);
    assert_eq!(entries(), few);
    // Of forty completions, 16 side by side, the last eight are completed anew in other company.
    assert!(evaluated("more kept", 30, true) == alone[1]);
    let (more, samples) = (entries() - few, 2);
    assert!((samples + 1..=samples + 2).contains(&more), "{more}");
    let reference = |name: &str, kept: bool| {
        *place.ledger.borrow_mut() = kept.then(|| ledger.clone());
        let inputs = ["model=fresh.model", "preferences=data.train", "test=data.test"];
        place.run(name, "policy.reference", json!({}), &inputs);
        std::fs::read(folder.path().join(format!("{name}.log_probs"))).unwrap()
    };
    let before = entries();
    assert!(reference("alone", false) == reference("kept", true));
    let kept = entries();
    assert!(kept > before);
    // A training that is held to the same reference finds them there.
    let params = json!({ "learning_rate": 1e-3, "steps": 1 });
    place.run(
        "held",
        "policy.dpo",
        params,
        &["policy=fresh.model", "preferences=data.train", "test=data.test"],
    );
    assert_eq!(entries(), kept);
}

#[test]
fn a_training_that_is_measured_ends_early_with_its_best_weights_whether_or_not_it_was_broken_off() {
    let rows: Vec<Value> = (0..24)
        .map(|i| json!({ "prompt": format!("{i}?"), "chosen": "yes", "rejected": "no" }))
        .collect();
    let (folder, place) = small_world(&rows, &json!({ "test": 6 }));
    for (kind, model, data) in TRAINED {
        let test = "test=data.test";
        // So fast that it soon gets worse.
        let trained = |name: &str, steps: usize, kept: bool, more: Value| {
            let mut params = json!({
                "learning_rate": 0.3, "steps": steps, "batch": 4, "schedule": "constant", "max_grad_norm": 0.0,
            });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let name = format!("{kind} {name}");
            let checkpoints = folder.path().join(format!("{kind} kept"));
            *place.checkpoints.borrow_mut() = kept.then_some(checkpoints);
            let found = place.run(&name, kind, params, &[model, data, test]);
            let file =
                |path: &str| std::fs::read(folder.path().join(format!("{name}.{path}"))).unwrap();
            (found, file("model/model.safetensors"), String::from_utf8(file("curve")).unwrap())
        };
        let watched = json!({ "evaluate_every": 2, "keep": "best", "patience": 3 });
        let (found, best, curve) = trained("whole", 60, false, watched.clone());
        let points: Vec<Value> =
            curve.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let measured =
            points.iter().filter_map(|it| Some((it["step"].as_f64()?, it["test_loss"].as_f64()?)));
        let measured: Vec<(f64, f64)> = measured.collect();
        assert_eq!(measured.len(), points.len() / 2, "{kind}");
        let least =
            measured.iter().fold((0.0, f64::INFINITY), |a, b| if b.1 < a.1 { *b } else { a });
        assert!((found["best_step"] - least.0).abs() < 1e-9, "{kind}: {found:?}");
        assert!((points.len() as f64 - (least.0 + 6.0).min(60.0)).abs() < 1e-9, "{kind}");
        // As if it had ended there.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a step")]
        let (_, until, _) = trained("until", least.0 as usize, false, json!({}));
        assert!(best == until, "{kind}: other weights");
        trained("first", 3, true, watched.clone());
        let again = trained("again", 60, true, watched);
        assert!(best == again.1 && curve == again.2, "{kind}: other weights");
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_policy_that_learns_from_preferences_gains_true_reward() {
    let place = tempfile::tempdir().unwrap();
    let epochs = [4.0, 2.0, 2.0, 2.0];
    let scale = Scale { rows: 2000, prompts: 64, hidden: 96, layers: 3, epochs };
    let found = whole_way(&Place::new(place.path()), &scale);
    assert!(found["rm"]["test_accuracy_low"] > 0.6);
    assert!(found["after"]["true_reward"] > found["before"]["true_reward"] + 0.1);
    assert!(found["after"]["win_rate_true_reward_low"] > 0.5);
}
