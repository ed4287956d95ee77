//! Against TRL 1.12: the mixture that a policy of Nash-MD plays, and the loss of XPO. The loss of its Nash-MD is not ours: it takes
//! a token's own log-ratio off, where the policy gradient takes off those of all that follows.

use gradus_protocol::Page;
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, LOSS, Within, close, number};
use crate::{
    nn::{
        adamw::gradient_norm,
        batch::Example,
        decoder::Model,
        generate::{Limits, generate_mixed},
        sampling::Sampling,
        stream::Stream,
    },
    policy::{
        sequences::table,
        surrogate::{Extent, PolicyLoss, Sampled},
        xpo::Exploring,
    },
};

const NORM: Within = Within { relative: 2e-4, absolute: 1e-9 };

fn models(fixture: &Fixture) -> Option<[Model; 2]> {
    let role = |role: &str| fixture.model(fixture.json[role].as_str().unwrap());
    Some([role("policy")?, role("reference")?])
}

/// The rows of a batch without their padding.
fn rows(fixture: &Fixture, batch: &str) -> Vec<Vec<u32>> {
    let of = |name: &str| -> Vec<Vec<i64>> {
        fixture.tensor(&format!("{batch}.{name}")).try_into().unwrap()
    };
    let real = |(ids, mask): (Vec<i64>, Vec<i64>)| {
        let kept = ids.into_iter().zip(mask).filter(|(_, mask)| *mask == 1);
        kept.map(|(id, _)| u32::try_from(id).unwrap()).collect()
    };
    of("input_ids").into_iter().zip(of("attention_mask")).map(real).collect()
}

#[test]
fn oracle_losses_nash_mixture() {
    let Some(fixture) = Fixture::open("losses/nash_xpo") else { return };
    let Some([policy, reference]) = models(&fixture) else { return };
    let prompts = rows(&fixture, "mixture");
    let of: Vec<usize> = (0..prompts.len()).flat_map(|row| [row; 8]).collect();
    let asked: Vec<&[u32]> = of.iter().map(|row| prompts[*row].as_slice()).collect();
    for share in fixture.json["mixture_coefs"].as_array().unwrap() {
        let theirs = fixture.tensor(&format!("mixture.log_probs_last.{share}"));
        let share = number(share);
        let limits =
            Limits { max_new_tokens: 1, budgets: None, eos: &[], rows: of.len(), steering: None };
        let draws = Stream::of(7).rows(of.len()).collect();
        let mixed = [(&policy, 1.0 - share), (&reference, share)];
        let blank = Page::blank();
        let said =
            generate_mixed(&mixed, &asked, draws, &Sampling::PLAIN, &limits, &blank, |_| Ok(()))
                .unwrap();
        for (row, said) in of.iter().zip(said) {
            let [row, id] = [*row, said.ids[0] as usize].map(|it| i64::try_from(it).unwrap());
            let name = format!("mixture {share}: row {row}, token {id}");
            close(&name, f64::from(said.log_probs[0]), theirs.double_value(&[row, id]), LOG_PROBS);
        }
    }
}

/// The same behind their prompts, which are padded on the left.
fn completions(fixture: &Fixture, batch: &str) -> Vec<Example> {
    let width = fixture.json["context_length"].as_i64().unwrap();
    let mask = fixture.tensor(&format!("{batch}.attention_mask"));
    let prompts = mask.narrow(1, 0, width).sum_dim_intlist(1, false, Kind::Int64);
    let prompts: Vec<i64> = Vec::try_from(prompts).unwrap();
    let rows = rows(fixture, batch).into_iter().zip(prompts);
    rows.map(|(ids, prompt)| Example::after_prompt(ids, usize::try_from(prompt).unwrap())).collect()
}

#[test]
fn oracle_losses_xpo() {
    let Some(fixture) = Fixture::open("losses/nash_xpo") else { return };
    let Some([policy, reference]) = models(&fixture) else { return };
    // The fixture's two sides do not even answer the same prompts, which is the same to the loss.
    let sides = ["model_data", "other_data"].map(|side| completions(&fixture, side));
    let pairs =
        sides[0].iter().zip(&sides[1]).flat_map(|(own, other)| [own.clone(), other.clone()]);
    let pairs: Vec<Example> = pairs.collect();
    let parts: Vec<&Example> = pairs.iter().collect();
    let first: Vec<u8> = Vec::try_from(fixture.tensor("xpo.chosen_mask")).unwrap();
    let signs: Vec<f32> =
        first.iter().flat_map(|own| if *own == 1 { [0.5, -0.5] } else { [-0.5, 0.5] }).collect();
    let held = tch::no_grad(|| table(&reference, &parts, 1.0).log_probs);
    for case in fixture.json["xpo"].as_array().unwrap() {
        let kind = case["loss_type"].as_str().unwrap();
        let loss = Exploring::of(kind, number(&case["beta"]), number(&case["alpha"]));
        let found = table(&policy, &parts, 1.0);
        let sampled = Sampled {
            old: &held,
            reference: Some(&held),
            advantages: &Tensor::from_slice(&signs).view([-1, 1]),
            mask: &found.mask,
        };
        let lengths = found.mask.sum_dim_intlist(1, false, Kind::Double);
        let lengths: Vec<f64> = Vec::try_from(lengths).unwrap();
        let tokens = lengths.iter().sum();
        let step = Extent { lengths, rows: pairs.len() as f64, tokens, longest: 1.0 };
        let cost = loss.loss(&found.log_probs, &sampled, &step);
        close(kind, cost.sum.double_value(&[]), number(&case["loss"]), LOSS);
        cost.sum.backward();
        if let Some(tail) = found.tail {
            tail.backward(&policy).unwrap();
        }
        let norm = gradient_norm(policy.parameters.values()).double_value(&[]);
        close(&format!("{kind}: grad_norm"), norm, number(&case["grad_norm"]), NORM);
        for parameter in policy.parameters.values() {
            parameter.shallow_clone().zero_grad();
        }
    }
}
