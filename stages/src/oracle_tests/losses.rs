//! Losses, their gradients and what is shown beside them.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, LOSS, Within, all_close, close, logprob, number};
use crate::{
    feedback::comparisons::comparison_losses,
    nn::{
        adamw::gradient_norm,
        batch::{Batch, Example},
        decoder::Model,
        head::{self, Tail},
        likelihood::{TokenLoss, learnt, token_losses},
    },
    policy::losses::{Divergence, DpoLoss, DpoSettings, Ratios, metrics},
};

const NORM: Within = Within { relative: 2e-4, absolute: 1e-9 };

/// Backs up from `loss` and compares it and the gradients with the case.
fn check(
    name: &str,
    case: &Value,
    model: &Model,
    (loss, tail): (&Tensor, Option<Tail>),
    within: Within,
) {
    close(&format!("{name}: loss"), loss.double_value(&[]), number(&case["loss"]), within);
    loss.backward();
    if let Some(tail) = tail {
        tail.backward(model).unwrap();
    }
    let norm = gradient_norm(model.parameters.values()).double_value(&[]);
    close(&format!("{name}: grad_norm"), norm, number(&case["grad_norm"]), NORM);
    for (parameter, theirs) in case["grad_l2"].as_object().into_iter().flatten() {
        let gradient = model.parameters[parameter].grad().norm().double_value(&[]);
        close(&format!("{name}: {parameter}"), gradient, number(theirs), NORM);
    }
    for parameter in model.parameters.values() {
        parameter.shallow_clone().zero_grad();
    }
}

/// The kind of loss by its name, or None, with a word about it.
fn named<T: serde::de::DeserializeOwned>(fixture: &str, name: &str, kind: &Value) -> Option<T> {
    let known = serde_json::from_value(kind.clone()).ok();
    if known.is_none() {
        println!("skipped: {fixture}: {name}: the loss {kind} is not ours");
    }
    known
}

/// True, with a word about it, if the case sets something that we do not have.
fn has_more(fixture: &str, name: &str, case: &Value, known: &[&str]) -> bool {
    let unset = |value: &Value| value.is_null() || value == false || value == "reverse_kl";
    let keys = case.as_object().unwrap().iter();
    let more: Vec<&String> = keys
        .filter(|(key, value)| !known.contains(&key.as_str()) && !unset(value))
        .map(|(key, _)| key)
        .collect();
    if !more.is_empty() {
        println!("skipped: {fixture}: {name}: {more:?} is not ours");
    }
    !more.is_empty()
}

/// The bins of a batch: rows that a mask tells from their padding, or that begin at position 0.
fn examples(fixture: &Fixture, batch: &str) -> Vec<Vec<Example>> {
    let rows = |name: &str| -> Option<Vec<Vec<i64>>> {
        Some(fixture.tensors.get(&format!("{batch}.{name}"))?.try_into().unwrap())
    };
    let (ids, labels) = (rows("input_ids").unwrap(), rows("labels").unwrap());
    let (masks, positions) = (rows("attention_mask"), rows("position_ids"));
    let bin = |r: usize| {
        let mut bin: Vec<(Vec<u32>, Vec<bool>)> = Vec::new();
        for i in (0..ids[r].len()).filter(|i| masks.as_ref().is_none_or(|masks| masks[r][*i] == 1))
        {
            if bin.is_empty() || positions.as_ref().is_some_and(|positions| positions[r][i] == 0) {
                bin.push((Vec::new(), Vec::new()));
            }
            let (row, learn) = bin.last_mut().unwrap();
            row.push(ids[r][i].try_into().unwrap());
            learn.push(labels[r][i] != -100);
        }
        bin.into_iter().map(|(ids, learn)| Example::masked(ids, &learn)).collect()
    };
    (0..ids.len()).map(bin).collect()
}

#[test]
fn oracle_losses_sft() {
    let Some(fixture) = Fixture::open("losses/sft") else { return };
    let Some(model) = fixture.model(fixture.json["policy"].as_str().unwrap()) else { return };
    let known = [
        "name",
        "batch",
        "num_items_in_batch",
        "loss_type",
        "label_smoothing_factor",
        "loss",
        "grad_norm",
        "grad_l2",
        "entropy",
        "mean_token_accuracy",
    ];
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        let kind = match case["loss_type"].as_str() {
            // The same loss; only its memory differs.
            None | Some("chunked_nll") => "nll".into(),
            Some(kind) => kind.into(),
        };
        let Some(kind) = named::<TokenLoss>("losses/sft", name, &kind) else { continue };
        if has_more("losses/sft", name, case, &known) {
            continue;
        }
        let rows = examples(&fixture, case["batch"].as_str().unwrap());
        let bins: Vec<&[Example]> = rows.iter().map(Vec::as_slice).collect();
        let (hidden, ids) = learnt(&model, &bins);
        let (said, tail) = head::said(&model, &hidden, &ids);
        let smoothing = case["label_smoothing_factor"].as_f64().unwrap_or(0.0);
        let losses = token_losses(&said, kind, smoothing);
        let count = case["num_items_in_batch"].as_f64().unwrap_or(losses.numel() as f64);
        compared += 1;
        let loss = losses.sum(Kind::Float) / count;
        check(name, case, &model, (&loss, tail), LOSS);
        let entropy = said.entropy.mean(Kind::Float).double_value(&[]);
        close(name, entropy, number(&case["entropy"]), LOG_PROBS);
        let accuracy = said.correct.mean(Kind::Float).double_value(&[]);
        close(name, accuracy, number(&case["mean_token_accuracy"]), LOSS);
    }
    assert!(compared > 0, "none of the cases is ours: nothing was compared");
}

#[test]
fn oracle_losses_reward() {
    let Some(fixture) = Fixture::open("losses/reward") else { return };
    let Some(model) = fixture.model(fixture.json["model"].as_str().unwrap()) else { return };
    let batch = |side: &str| {
        let ids = fixture.tensor(&format!("{side}.input_ids"));
        let mask = fixture.tensor(&format!("{side}.attention_mask"));
        let row = |row: i64| {
            let real = mask.get(row).nonzero().squeeze_dim(1);
            let ids = ids.get(row).index_select(0, &real).to_kind(Kind::Int64);
            let ids = Vec::<i64>::try_from(ids).unwrap().into_iter();
            ids.map(|id| u32::try_from(id).unwrap()).collect::<Vec<_>>()
        };
        (0..ids.size()[0]).map(row).collect::<Vec<_>>()
    };
    let judged = |rows: &[Vec<u32>]| {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        model.scores(&rows)
    };
    let theirs = fixture.tensor("left.rewards");
    all_close("left", &judged(&batch("left")), theirs, None, LOG_PROBS);
    let known =
        ["name", "center_rewards_coefficient", "margin", "loss", "grad_norm", "grad_l2", "metrics"];
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        if has_more("losses/reward", name, case, &known) {
            continue;
        }
        let scores = judged(&batch("batch"));
        all_close(name, &scores, fixture.tensor("rewards"), None, LOG_PROBS);
        let sides = scores.chunk(2, 0);
        let margin = (case["margin"] == true).then(|| fixture.tensor("batch.margin"));
        let centring = case["center_rewards_coefficient"].as_f64().unwrap_or(0.0);
        let losses = comparison_losses(&sides[0], &sides[1], margin, centring);
        compared += 1;
        check(name, case, &model, (&losses.mean(Kind::Float), None), LOSS);
        let gap = &sides[0] - &sides[1];
        for (metric, ours) in [
            ("accuracy", gap.gt(0.0).to_kind(Kind::Float).mean(Kind::Float)),
            ("margin", gap.mean(Kind::Float)),
            ("max_reward", scores.max()),
            ("mean_reward", scores.mean(Kind::Float)),
            ("min_reward", scores.min()),
        ] {
            let theirs = number(&case["metrics"][metric]);
            close(&format!("{name}: {metric}"), ours.double_value(&[]), theirs, LOG_PROBS);
        }
    }
    assert!(compared > 0, "none of the cases is ours: nothing was compared");
}

/// The losses of a case with their weights, or None, with a word about it.
fn dpo_settings(name: &str, case: &Value, beta: f64) -> Option<DpoSettings> {
    let kinds = case["loss_type"].as_array().unwrap();
    let weight = |at: usize| case["loss_weights"][at].as_f64().unwrap_or(1.0);
    let mut settings =
        DpoSettings::of(DpoLoss::Sigmoid, case["beta"].as_f64().unwrap_or(beta), 0.0);
    settings.losses.clear();
    for (at, kind) in kinds.iter().enumerate() {
        if kind == "sft" {
            settings.imitation_weight = weight(at);
        } else {
            settings.losses.push((named::<DpoLoss>("losses/dpo", name, kind)?, weight(at)));
        }
    }
    // TRL sets it for any loss and heeds it in these.
    let heeds = [DpoLoss::Robust, DpoLoss::ExoPair, DpoLoss::Aot, DpoLoss::AotUnpaired];
    if settings.losses.iter().all(|(loss, _)| heeds.contains(loss)) {
        settings.label_smoothing = case["label_smoothing"].as_f64().unwrap_or(0.0);
    }
    settings.discopop_tau = case["discopop_tau"].as_f64().unwrap_or(0.05);
    settings.alpha = case["f_alpha_divergence_coef"].as_f64().unwrap_or(0.5);
    settings.divergence = match case["f_divergence_type"].as_str() {
        None | Some("reverse_kl") => Divergence::ReverseKl,
        Some("forward_kl") => Divergence::ForwardKl,
        Some("js_divergence") => Divergence::Js,
        Some("alpha_divergence") => Divergence::Alpha,
        Some(other) => {
            println!("skipped: losses/dpo: {name}: the divergence {other} is not ours");
            return None;
        }
    };
    Some(settings)
}

#[test]
fn oracle_losses_dpo() {
    let Some(fixture) = Fixture::open("losses/dpo") else { return };
    let role = |role: &str| fixture.model(fixture.json[role].as_str().unwrap());
    let Some(policy) = role("policy") else { return };
    let mask = fixture.tensor("batch.attention_mask");
    let batch = Batch::masked(fixture.tensor("batch.input_ids").shallow_clone(), mask);
    let completion = fixture.tensor("batch.completion_mask").narrow(1, 1, batch.width() - 1);
    let sums = |model: &Model, who: &str| {
        let log_probs = logprob::next_token(model, &batch);
        let theirs = fixture.tensor(&format!("{who}.token_logps"));
        all_close(who, &log_probs, theirs, Some(&completion), LOG_PROBS);
        let sums = logprob::sum(&log_probs, &completion);
        // A sum of n log-probabilities may be off by n times what one may be.
        let sum_within = Within { absolute: 5e-5 * batch.width() as f64, ..LOG_PROBS };
        all_close(who, &sums, fixture.tensor(&format!("{who}.seq_logps")), None, sum_within);
        sums
    };
    // A reference that is not ours to compute is taken as given.
    let reference = match role("reference") {
        Some(reference) => tch::no_grad(|| sums(&reference, "reference")),
        None => fixture.tensor("reference.seq_logps").shallow_clone(),
    };
    let lengths = fixture.tensor("batch.completion_mask");
    let lengths = lengths.sum_dim_intlist(1, false, Kind::Float).chunk(2, 0);
    let beta = number(&fixture.json["beta"]);
    let known = [
        "name",
        "loss_type",
        "loss_weights",
        "label_smoothing",
        "discopop_tau",
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "beta",
        "loss",
        "grad_norm",
        "grad_l2",
        "metrics",
    ];
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        if has_more("losses/dpo", name, case, &known) {
            continue;
        }
        let Some(settings) = dpo_settings(name, case, beta) else { continue };
        let (beta, imitation) = (settings.beta, settings.imitation_weight);
        let loss = settings.losses.first().map_or(DpoLoss::Sigmoid, |(loss, _)| *loss);
        let sums = sums(&policy, "policy");
        let sides = (&sums - &reference).chunk(2, 0);
        let [chosen, rejected] = [0, 1].map(|i| sides[i].shallow_clone());
        let [chosen_length, rejected_length] = [0, 1].map(|i| lengths[i].shallow_clone());
        let known = reference.chunk(2, 0);
        let reference_gap = &known[0] - &known[1];
        let tokens = chosen_length.sum(Kind::Float);
        let ratios = Ratios { chosen, rejected, reference_gap, chosen_length, rejected_length };
        let far = matches!(loss, DpoLoss::Ipo | DpoLoss::SppoHard | DpoLoss::Discopop)
            || settings.divergence == Divergence::ForwardKl;
        let within = Within { relative: if far { 1e-4 } else { 1e-5 }, ..LOSS };
        compared += 1;
        let imitated = -sums.chunk(2, 0)[0].sum(Kind::Float) / tokens * imitation;
        let loss = settings.losses(&ratios).mean(Kind::Float) + imitated;
        check(name, case, &policy, (&loss, None), within);
        let pairs = sides[0].numel() as f64;
        let shown = metrics(&[&ratios.chosen * beta, &ratios.rejected * beta])
            .into_iter()
            .map(|(metric, sum)| (metric, sum / pairs));
        let mut log_probs = sums.chunk(2, 0);
        let rejected = log_probs.remove(1).mean(Kind::Float);
        let shown = shown.chain([
            ("logps/chosen", log_probs.remove(0).mean(Kind::Float)),
            ("logps/rejected", rejected),
        ]);
        for (metric, ours) in shown {
            let theirs = number(&case["metrics"][metric]);
            close(&format!("{name}: {metric}"), ours.double_value(&[]), theirs, LOG_PROBS);
        }
    }
    assert!(compared > 0, "none of the cases is ours: nothing was compared");
}
