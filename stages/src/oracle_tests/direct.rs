//! Losses of direct methods that need no pair of log-ratios: CPO, `SimPO`, ORPO and KTO.

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, LOSS, Within, close, number};
use crate::{
    nn::{adamw::gradient_norm, batch::Example, decoder::Model, head::Tail, trainer::Objective},
    policy::{
        cpo,
        kto::{KtoLoss, KtoSettings},
        orpo,
        pairs::{PairLoss, Pairs},
        sequences::sequence_log_probs,
        simpo,
    },
    prepare::{examples::Pair, token_rows::Asked},
};

const NORM: Within = Within { relative: 2e-4, absolute: 1e-9 };

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

fn example(prompt: &Value, completion: &Value) -> Example {
    let prompt = ids(prompt);
    let given = prompt.len();
    Example::after_prompt([prompt, ids(completion)].concat(), given)
}

fn compare(name: &str, case: &Value, model: &Model, loss: &Tensor, tail: Option<Tail>) {
    close(&format!("{name}: loss"), loss.double_value(&[]), number(&case["loss"]), LOSS);
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

/// Parameters of a kind, by the names that the fixture has for them.
fn params<T: serde::de::DeserializeOwned>(case: &Value, names: &[(&str, &str)]) -> T {
    let mut given = Map::from_iter([("learning_rate".to_owned(), json!(0.1))]);
    for (theirs, ours) in names {
        if let Some(value) = case.get(*theirs).filter(|it| !it.is_null()) {
            given.insert((*ours).to_owned(), value.clone());
        }
    }
    serde_json::from_value(Value::Object(given)).unwrap()
}

#[test]
fn oracle_losses_cpo_orpo() {
    let Some(fixture) = Fixture::open("losses/cpo_orpo") else { return };
    let Some(model) = fixture.model(fixture.json["policy"].as_str().unwrap()) else { return };
    let rows = fixture.json["rows"].as_array().unwrap();
    let pairs = || {
        let pair = |row: &Value| Pair {
            chosen: example(&row["prompt_ids"], &row["chosen_ids"]),
            rejected: example(&row["prompt_ids"], &row["rejected_ids"]),
            asked: Asked::of(""),
        };
        rows.iter().map(pair).collect::<Vec<_>>()
    };
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        let cost = |loss: &dyn PairLoss| {
            let pairs = Pairs::new(loss, pairs(), all.clone());
            let found = pairs.loss(&model, &all, &all).unwrap();
            let count = rows.len() as f64;
            compare(name, case, &model, &(found.sum / count), found.tail);
            for (metric, sum) in found.metrics {
                let theirs = if metric == "imitation_loss" { "nll_loss" } else { metric };
                if let Some(theirs) = case["metrics"][theirs].as_f64() {
                    close(
                        &format!("{name}: {metric}"),
                        sum.double_value(&[]) / count,
                        theirs,
                        LOG_PROBS,
                    );
                }
            }
        };
        let common = [("beta", "beta"), ("label_smoothing", "label_smoothing")];
        let imitation = [("cpo_alpha", "imitation_weight")];
        let of = |more: &[(&'static str, &'static str)]| [&common[..], more].concat();
        match case["loss_type"].as_str() {
            None => {
                let params: orpo::Params = params(case, &[("beta", "beta")]);
                cost(&&params);
            }
            Some("simpo") => {
                let more = [imitation[0], ("simpo_gamma", "margin"), ("alpha", "alpha")];
                let params: simpo::Params = params(case, &of(&more));
                cost(&&params);
            }
            Some(_) => {
                let more = [imitation[0], ("loss_type", "loss")];
                let params: cpo::Params = params(case, &of(&more));
                cost(&&params);
            }
        }
        compared += 1;
    }
    assert!(compared > 0, "no case of it is ours");
}

#[test]
fn oracle_losses_kto() {
    let Some(fixture) = Fixture::open("losses/kto") else { return };
    let rows = fixture.json["rows"].as_array().unwrap();
    let texts: Vec<Example> =
        rows.iter().map(|row| example(&row["prompt_ids"], &row["completion_ids"])).collect();
    let elsewhere: Vec<Example> =
        rows.iter().map(|row| example(&row["prompt_ids"], &row["KL_completion_ids"])).collect();
    let labels: Vec<f32> =
        rows.iter().map(|row| f32::from(u8::from(row["label"] == true))).collect();
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        let role = |role: &str| fixture.model(case[role].as_str().unwrap());
        let (Some(policy), Some(reference)) = (role("policy"), role("reference")) else { continue };
        let ratios = |rows: &[Example]| {
            let rows: Vec<&Example> = rows.iter().collect();
            let (own, tail) = sequence_log_probs(&policy, &rows);
            let held = tch::no_grad(|| sequence_log_probs(&reference, &rows).0);
            (own - held, tail)
        };
        let settings = KtoSettings {
            loss: serde_json::from_value::<KtoLoss>(case["loss_type"].clone()).unwrap(),
            beta: number(&case["beta"]),
            desirable: case["desirable_weight"].as_f64().unwrap_or(1.0),
            undesirable: case["undesirable_weight"].as_f64().unwrap_or(1.0),
        };
        let z = tch::no_grad(|| ratios(&elsewhere).0.mean(Kind::Float).double_value(&[])).max(0.0);
        if settings.loss == KtoLoss::Kto {
            close(&format!("{name}: kl"), z, number(&case["metrics"]["kl"]), LOG_PROBS);
        }
        let (own, tail) = ratios(&texts);
        let losses = settings.losses(&own, &Tensor::from_slice(&labels), z);
        compare(name, case, &policy, &losses.mean(Kind::Float), tail);
        compared += 1;
    }
    assert!(compared > 0, "no case of it is ours");
}
