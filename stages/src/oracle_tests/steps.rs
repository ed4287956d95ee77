//! Whole runs of a few steps: the loss, the gradient's norm and the rate of each, and the weights after.

use std::collections::BTreeSet;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Fixture, LOSS, Within, all_close, close, logprob, number};
use crate::{
    error::StageError,
    nn::{
        adamw::{AdamSettings, decays},
        batch::Batch,
        decoder::Model,
        schedule::{Decay, Schedule},
        stepper::{Loss, Stepper},
    },
    policy::losses::{DpoLoss, DpoSettings, Ratios, metrics},
};

const WEIGHTS: Within = Within { relative: 2e-4, absolute: 2e-4 };

/// Takes the fixture's steps, with `loss` giving each micro-batch's summed loss and `weight` what a
/// step's sum is divided by, and compares.
fn run(
    name: &str,
    fixture: &Fixture,
    model: &Model,
    weight: impl Fn(&[usize]) -> f64,
    loss: impl Fn(usize) -> Result<Loss, StageError>,
) {
    let settings = &fixture.json["hyperparameters"];
    let get = |key: &str| number(&settings[key]);
    let count = |key: &str| usize::try_from(settings[key].as_u64().unwrap()).unwrap();
    let steps = count("steps");
    // Below one, the warm-up is a share of the steps, rounded up.
    let warmup = match get("warmup") {
        share if share < 1.0 => {
            (0..steps).find(|step| *step as f64 >= share * steps as f64).unwrap()
        }
        _ => count("warmup"),
    };
    // In transformers, `constant` knows no warm-up.
    let (decay, warmup) = match settings["sched"].as_str().unwrap() {
        "constant" => (Decay::Constant, 0),
        "constant_with_warmup" => (Decay::Constant, warmup),
        "linear" => (Decay::Linear, warmup),
        "cosine" => (Decay::Cosine, warmup),
        other => return println!("skipped: {name}: the schedule `{other}` is not ours"),
    };
    check_decay(fixture, model);
    let adam = AdamSettings {
        beta1: get("beta1"),
        beta2: get("beta2"),
        epsilon: get("eps"),
        weight_decay: get("wd"),
    };
    let schedule = Schedule { peak: get("lr"), decay, warmup, steps };
    let mut stepper = Stepper::new(adam, schedule, get("clip"));
    let accumulate = count("accum");
    for (step, logged) in fixture.json["logged"].as_array().unwrap().iter().enumerate() {
        let parts: Vec<usize> = (step * accumulate..(step + 1) * accumulate).collect();
        let point =
            stepper.step(model, accumulate, weight(&parts), |part| loss(parts[part])).unwrap();
        let what = |key: &str| format!("{name}: step {}: {key}", step + 1);
        close(&what("loss"), point.loss, number(&logged["loss"]), LOSS);
        let norm = Within { relative: 2e-4, absolute: 0.0 };
        close(&what("grad_norm"), point.grad_norm, number(&logged["grad_norm"]), norm);
        close(&what("learning_rate"), point.learning_rate, number(&logged["learning_rate"]), LOSS);
        if let Some(margin) = logged.get("rewards/margins") {
            let ours = number(&point.metrics["rewards/margins"]);
            close(&what("rewards/margins"), ours, number(margin), super::LOG_PROBS);
        }
    }
    check_weights(name, fixture, model);
}

fn check_decay(fixture: &Fixture, model: &Model) {
    let groups = fixture.json["weight_decay_groups"].as_array().unwrap();
    let mut groups: Vec<(f64, BTreeSet<String>)> = groups
        .iter()
        .map(|group| {
            let names = serde_json::from_value(group["names"].clone()).unwrap();
            (number(&group["weight_decay"]), names)
        })
        .collect();
    let (decaying, still) =
        model.parameters.keys().cloned().partition::<BTreeSet<_>, _>(|name| decays(name));
    // Without any decay, the groups stand in the same order.
    groups.sort_by(|a, b| b.0.total_cmp(&a.0));
    let theirs: Vec<_> = groups.into_iter().map(|(_, names)| names).collect();
    assert_eq!([decaying, still], theirs[..], "parameters that decay, and the others");
}

fn check_weights(name: &str, fixture: &Fixture, model: &Model) {
    for (tensor, theirs) in &fixture.tensors {
        if let Some(parameter) = tensor.strip_prefix("final.") {
            all_close(tensor, &model.parameters[parameter], theirs, None, WEIGHTS);
        }
    }
    check_sums(name, &fixture.json["final_checksums"], model);
}

/// Compares three sums of every parameter with those of the fixture.
pub(super) fn check_sums(name: &str, theirs: &Value, model: &Model) {
    for (parameter, theirs) in theirs.as_object().unwrap() {
        let x = model.parameters[parameter].detach().to_kind(Kind::Double).flatten(0, -1);
        let cosines = Tensor::arange(x.size()[0], (Kind::Double, x.device())).cos();
        for (sum, ours) in [
            ("sum", x.sum(Kind::Double)),
            ("l2", x.norm()),
            ("dotcos", (&x * cosines).sum(Kind::Double)),
        ] {
            let what = format!("{name}: {parameter}: {sum}");
            close(&what, ours.double_value(&[]), number(&theirs[sum]), WEIGHTS);
        }
    }
}

fn batch(fixture: &Fixture, part: usize) -> Batch {
    let ids = fixture.tensor(&format!("micro_batch.{part}.input_ids")).shallow_clone();
    Batch::masked(ids, fixture.tensor(&format!("micro_batch.{part}.attention_mask")))
}

#[test]
fn oracle_steps_sft() {
    let Some(fixture) = Fixture::open("steps/sft") else { return };
    let Some(model) = fixture.model(fixture.json["policy"].as_str().unwrap()) else { return };
    let mask = |part: usize| {
        let labels = fixture.tensor(&format!("micro_batch.{part}.labels"));
        labels.narrow(1, 1, labels.size()[1] - 1).not_equal(-100)
    };
    let labels = |parts: &[usize]| {
        let count = |part: &usize| mask(*part).sum(Kind::Double).double_value(&[]);
        let sum: f64 = parts.iter().map(count).sum();
        let given = fixture.tensor(&format!("micro_batch.{}.num_items_in_batch", parts[0]));
        close("num_items_in_batch", sum, given.double_value(&[]), LOSS);
        sum
    };
    run("steps/sft", &fixture, &model, labels, |part| {
        let log_probs = logprob::next_token(&model, &batch(&fixture, part));
        Ok(Loss {
            sum: -(log_probs * mask(part)).sum(Kind::Float),
            metrics: Vec::new(),
            tail: None,
        })
    });
}

#[test]
fn oracle_steps_dpo() {
    let Some(fixture) = Fixture::open("steps/dpo") else { return };
    let Some(model) = fixture.model(fixture.json["policy"].as_str().unwrap()) else { return };
    let reference = fixture.json["reference"].as_str().unwrap();
    let reference = reference.split_whitespace().next().unwrap();
    let Some(reference) = fixture.model(reference) else { return };
    let beta = number(&fixture.json["beta"]);
    let setting = |key: &str| match &fixture.json[key] {
        Value::Null => fixture.json["hyperparameters"][key].clone(),
        set => set.clone(),
    };
    let loss = match setting("loss_type") {
        Value::Null => DpoLoss::Sigmoid,
        Value::Array(kinds) if kinds.len() == 1 => {
            serde_json::from_value(kinds[0].clone()).unwrap()
        }
        kind => serde_json::from_value(kind).unwrap(),
    };
    let label_smoothing = setting("label_smoothing").as_f64().unwrap_or(0.0);
    let settings = DpoSettings::of(loss, beta, label_smoothing);
    // TRL averages the means of micro-batches, whatever their sizes.
    let weight = |parts: &[usize]| parts.len() as f64;
    run("steps/dpo", &fixture, &model, weight, |part| {
        let batch = batch(&fixture, part);
        let whole = fixture.tensor(&format!("micro_batch.{part}.completion_mask"));
        let mask = whole.narrow(1, 1, batch.width() - 1);
        let sums = |model: &Model| logprob::sum(&logprob::next_token(model, &batch), &mask);
        let known = sums(&reference).detach();
        let gaps = known.chunk(2, 0);
        let reference_gap = &gaps[0] - &gaps[1];
        let ratios = (sums(&model) - known).chunk(2, 0);
        let lengths = whole.sum_dim_intlist(1, false, Kind::Float).chunk(2, 0);
        let [chosen, rejected] = [0, 1].map(|i| ratios[i].shallow_clone());
        let [chosen_length, rejected_length] = [0, 1].map(|i| lengths[i].shallow_clone());
        let ratios = Ratios { chosen, rejected, reference_gap, chosen_length, rejected_length };
        let mean = settings.losses(&ratios).mean(Kind::Float);
        let pairs = ratios.chosen.numel() as f64;
        let metrics = metrics(&[&ratios.chosen * beta, &ratios.rejected * beta])
            .into_iter()
            .map(|(name, sum)| (name, sum / pairs));
        Ok(Loss { sum: mean, metrics: metrics.collect(), tail: None })
    });
}
