//! The sampling filters, alone and in a row.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, all_close, number};
use crate::nn::sampling::{Sampling, keep_min_p, keep_top_k, keep_top_p, penalise};

/// In the order of [`Sampling::filter`].
const OURS: [&str; 5] = ["repetition_penalty", "temperature", "top_k", "top_p", "min_p"];

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
        let order: Vec<String> = if filter == "all" {
            serde_json::from_value(parameters["order_in_all"].clone()).unwrap()
        } else {
            vec![filter.to_owned()]
        };
        if let Some(strange) = order.iter().find(|filter| !OURS.contains(&filter.as_str())) {
            println!("skipped: generation/filters: {filter}: `{strange}` is not ours");
            continue;
        }
        let step = |x: Tensor, filter: &String| apply(filter, &x, seen, parameters);
        let ours = order.iter().fold(logits.shallow_clone(), step);
        if order.iter().map(|filter| OURS.iter().position(|ours| ours == filter)).is_sorted() {
            let value = |filter: &str, off: f64| {
                order
                    .iter()
                    .find(|known| *known == filter)
                    .map_or(off, |_| number(&parameters[filter]))
            };
            #[expect(clippy::cast_possible_truncation, reason = "a count of tokens")]
            let together = Sampling {
                temperature: value("temperature", 1.0),
                top_k: value("top_k", 0.0) as i64,
                top_p: value("top_p", 1.0),
                min_p: value("min_p", 0.0),
                repetition_penalty: value("repetition_penalty", 1.0),
            };
            same(filter, &together.filter(logits, seen), &ours);
        }
        same(filter, &ours, theirs);
        let probabilities = ours.softmax(-1, Kind::Float);
        let theirs = fixture.tensor(&format!("probs.{filter}"));
        all_close(filter, &probabilities, theirs, None, LOG_PROBS);
    }
}
