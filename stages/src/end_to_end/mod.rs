//! The whole way from made-up rows to a policy that has learnt from feedback, stage by stage.

mod beside;
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

#[test]
fn every_kind_gives_the_same_bytes_again() {
    let scale = Scale { rows: 48, prompts: 8, hidden: 32, layers: 2, epochs: [1.0; 4] };
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let found = whole_way(&place, &scale);
        beside::the_way(&place);
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
