//! The sampling filters, alone and in a row.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, all_close, number};
use crate::nn::sampling::{Sampling, keep_min_p, keep_top_k, keep_top_p, penalise};

fn apply(filter: &str, logits: &Tensor, seen: &Tensor, parameters: &Value) -> Tensor {
    let value = number(&parameters[filter]);
    match filter {
        "repetition_penalty" => penalise(logits, seen, value),
        "temperature" => logits / value,
        "top_k" => keep_top_k(logits, parameters[filter].as_i64().unwrap()),
        "top_p" => keep_top_p(logits, value),
        "min_p" => keep_min_p(logits, value),
        other => panic!("the filter `{other}` is not known"),
    }
}

#[track_caller]
fn same(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.isfinite(), theirs.isfinite(), "{what}: which tokens are kept");
    let finite = |x: &Tensor| x.masked_fill(&x.isfinite().logical_not(), 0.0);
    all_close(what, &finite(ours), &finite(theirs), None, LOG_PROBS);
}

#[test]
fn oracle_generation_filters() {
    let Some(fixture) = Fixture::open("generation/filters") else { return };
    let parameters = &fixture.json["parameters"];
    let (logits, seen) = (fixture.tensor("scores"), fixture.tensor("input_ids"));
    for (name, theirs) in &fixture.tensors {
        let Some(filter) = name.strip_prefix("after.") else { continue };
        let ours = if filter == "all" {
            let order: Vec<String> =
                serde_json::from_value(parameters["order_in_all"].clone()).unwrap();
            let step = |x: Tensor, filter: &String| apply(filter, &x, seen, parameters);
            let one_by_one = order.iter().fold(logits.shallow_clone(), step);
            let together = Sampling {
                temperature: number(&parameters["temperature"]),
                top_k: parameters["top_k"].as_i64().unwrap(),
                top_p: number(&parameters["top_p"]),
                min_p: number(&parameters["min_p"]),
                repetition_penalty: number(&parameters["repetition_penalty"]),
            };
            same("all", &together.filter(logits, seen), &one_by_one);
            one_by_one
        } else {
            apply(filter, logits, seen, parameters)
        };
        same(filter, &ours, theirs);
        let probabilities = ours.softmax(-1, Kind::Float);
        let theirs = fixture.tensor(&format!("probs.{filter}"));
        all_close(filter, &probabilities, theirs, None, LOG_PROBS);
    }
}
