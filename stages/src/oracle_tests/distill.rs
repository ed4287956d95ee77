//! Against TRL: the generalised Jensen–Shannon divergence of distillation.

use tch::Kind;

use super::{Fixture, LOSS, Within, close, number};
use crate::{
    nn::{adamw::gradient_norm, batch::Example, likelihood::learnt},
    policy::distill::divergence,
};

const NORM: Within = Within { relative: 2e-4, absolute: 1e-9 };

/// The rows with the places that are learnt.
fn rows(fixture: &Fixture) -> Vec<Example> {
    let of = |name: &str| -> Vec<Vec<i64>> { fixture.tensor(name).try_into().unwrap() };
    let rows = of("input_ids").into_iter().zip(of("attention_mask")).zip(of("labels"));
    rows.map(|((ids, mask), labels)| {
        let real = |it: &[i64]| -> Vec<i64> {
            it.iter().zip(&mask).filter(|(_, mask)| **mask == 1).map(|(it, _)| *it).collect()
        };
        let (ids, labels) = (real(&ids), real(&labels));
        let parts = (0..labels.len()).filter(|at| labels[*at] != -100).map(|at| at..at + 1);
        let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
        Example::of_parts(ids, parts.collect())
    })
    .collect()
}

#[test]
fn oracle_losses_gkd() {
    let Some(fixture) = Fixture::open("losses/gkd") else { return };
    let role = |role: &str| fixture.model(fixture.json[role].as_str().unwrap());
    let (Some(student), Some(teacher)) = (role("student"), role("teacher")) else { return };
    let rows = rows(&fixture);
    let bins: Vec<&[Example]> = rows.iter().map(std::slice::from_ref).collect();
    let mut compared = 0;
    for (at, case) in fixture.json["cases"].as_array().unwrap().iter().enumerate() {
        let (beta, temperature) = (number(&case["beta"]), number(&case["temperature"]));
        let logits = |model| {
            let model: &crate::nn::decoder::Model = model;
            model.logits(&learnt(model, &bins).0) / temperature
        };
        let theirs = tch::no_grad(|| logits(&teacher));
        let loss = divergence(&logits(&student), &theirs, beta).mean(Kind::Float);
        close(&format!("gkd {at}"), loss.double_value(&[]), number(&case["loss"]), LOSS);
        loss.backward();
        let norm = gradient_norm(student.parameters.values()).double_value(&[]);
        close(&format!("gkd {at}: grad_norm"), norm, number(&case["grad_norm"]), NORM);
        for parameter in student.parameters.values() {
            parameter.shallow_clone().zero_grad();
        }
        compared += 1;
    }
    assert!(compared > 0, "no case of it is ours");
}
