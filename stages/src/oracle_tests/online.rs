//! Losses of on-line methods, and what they make of rewards.

use tch::{Kind, Tensor};

use super::{Fixture, LOSS, Within, all_close, close, number};
use crate::{
    nn::{adamw::gradient_norm, batch::Example, decoder::Model, head::Tail},
    policy::{
        advantages::{Term, advantages},
        modulation::Modulation,
        sequences::{Table, by_row, placed, table_with_entropy},
        surrogate::{Extent, Level, PolicyLoss, Sampled, Surrogate, SurrogateLoss},
    },
};

const NORM: Within = Within { relative: 2e-4, absolute: 1e-9 };

fn list(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
}

/// Prompts and completions without their padding.
fn rows(fixture: &Fixture, batch: &str) -> Vec<Example> {
    let of = |name: &str| -> Vec<Vec<i64>> {
        fixture.tensor(&format!("{batch}.{name}")).try_into().unwrap()
    };
    let real = |ids: &[i64], mask: &[i64]| -> Vec<u32> {
        let kept = ids.iter().zip(mask).filter(|(_, mask)| **mask == 1);
        kept.map(|(id, _)| u32::try_from(*id).unwrap()).collect()
    };
    let (prompts, prompt_mask) = (of("prompt_ids"), of("prompt_mask"));
    let (completions, mask) = (of("completion_ids"), of("completion_mask"));
    (0..prompts.len())
        .map(|row| {
            let prompt = real(&prompts[row], &prompt_mask[row]);
            let count = prompt.len();
            Example::after_prompt([prompt, real(&completions[row], &mask[row])].concat(), count)
        })
        .collect()
}

/// A table of the fixture, as wide as ours and with nothing where there is no token.
fn theirs(fixture: &Fixture, name: &str, table: &Table) -> Tensor {
    let width = table.mask.size()[1];
    fixture.tensor(name).narrow(1, 0, width).to_kind(Kind::Float) * &table.mask
}

#[test]
fn oracle_losses_grpo() {
    let Some(fixture) = Fixture::open("losses/grpo") else { return };
    let Some(model) = fixture.model(fixture.json["policy"].as_str().unwrap()) else { return };
    let rows = rows(&fixture, "batch");
    let longest = number(&fixture.json["max_completion_length"]);
    let tokens = fixture.tensor("batch.num_items_in_batch").double_value(&[]);
    let temperature = number(&fixture.json["temperature"]);
    let mut compared = 0;
    for (name, case) in fixture.cases() {
        let known = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"];
        let kind = case["loss_type"].as_str().unwrap();
        if !known.contains(&kind) || case.get("note").is_some() {
            println!("skipped: losses/grpo: {name}: not ours");
            continue;
        }
        let loss = match kind {
            // The mean over the tokens of the batch that they are in.
            "bnpo" => SurrogateLoss::Dapo,
            other => serde_json::from_value(other.into()).unwrap(),
        };
        let low = case["epsilon"].as_f64().unwrap_or(0.2);
        let surrogate = Surrogate {
            loss,
            level: if case["importance_sampling_level"] == "sequence" {
                Level::Sequence
            } else {
                Level::Token
            },
            clip_low: low,
            clip_high: case["epsilon_high"].as_f64().unwrap_or(low),
            most: case["delta"].as_f64(),
            beta: case["beta"].as_f64().unwrap_or(0.0),
            corrected: case["use_bias_correction_kl"] == true,
            most_gap: case["off_policy_mask_threshold"].as_f64(),
        };
        let parts: Vec<&Example> = rows.iter().collect();
        let table = table_with_entropy(&model, &parts, temperature);
        let reference = theirs(&fixture, "batch.ref_per_token_logps", &table);
        let mut advantages = fixture.tensor("batch.advantages").view([-1, 1]);
        if let Some(share) = case["top_entropy_quantile"].as_f64() {
            advantages = of_the_most_entropic(&table, &parts, &advantages, share);
        }
        let sampled = Sampled {
            old: &theirs(&fixture, "batch.old_per_token_logps", &table),
            reference: (surrogate.beta > 0.0).then_some(&reference),
            advantages: &advantages,
            mask: &table.mask,
        };
        let own = theirs(&fixture, "policy.per_token_logps", &table);
        all_close(name, &table.log_probs, &own, None, super::LOG_PROBS);
        let (losses, _) = surrogate.losses(&table.log_probs, &sampled);
        let lengths = list(&table.mask.sum_dim_intlist(1, false, Kind::Float));
        let all = if kind == "bnpo" { lengths.iter().sum() } else { tokens };
        let count = rows.len() as f64;
        #[expect(clippy::cast_possible_truncation, reason = "weights are float32")]
        let weights: Vec<f32> =
            lengths.iter().map(|it| surrogate.weight(*it, count, all, longest) as f32).collect();
        let mut loss = (losses * Tensor::from_slice(&weights).view([-1, 1])).sum(Kind::Float);
        if let Some(worth) = case["entropy_coef"].as_f64() {
            let entropy = (&table.entropy * &table.mask).sum(Kind::Float);
            loss -= entropy / lengths.iter().sum::<f64>() * worth;
        }
        compare(name, case, &model, &loss, table.tail);
        compared += 1;
    }
    assert!(compared > 0, "no case of it is ours");
}

/// The advantages of all tokens, with nothing at those where the policy was sure.
#[expect(clippy::cast_possible_truncation, reason = "advantages are float32")]
fn of_the_most_entropic(table: &Table, rows: &[&Example], all: &Tensor, share: f64) -> Tensor {
    let each = |x: &Tensor| by_row(&x.expand_as(&table.mask).contiguous(), rows).unwrap();
    let mut advantages = each(all);
    let kept: Vec<usize> = (0..rows.len()).collect();
    Modulation::MostEntropic { share }.apply(
        &mut advantages,
        &each(&table.entropy.detach()),
        &[],
        &kept,
    );
    let own: Vec<f32> = advantages.concat().iter().map(|it| *it as f32).collect();
    placed(&Tensor::from_slice(&own), rows)
}

fn compare(name: &str, case: &serde_json::Value, model: &Model, loss: &Tensor, tail: Option<Tail>) {
    close(&format!("{name}: loss"), loss.double_value(&[]), number(&case["loss"]), LOSS);
    loss.backward();
    if let Some(tail) = tail {
        tail.backward(model).unwrap();
    }
    let norm = gradient_norm(model.parameters.values()).double_value(&[]);
    close(&format!("{name}: grad_norm"), norm, number(&case["grad_norm"]), NORM);
    for parameter in model.parameters.values() {
        parameter.shallow_clone().zero_grad();
    }
}

#[test]
fn oracle_group_advantages() {
    let Some(fixture) = Fixture::open("losses/group_advantages") else { return };
    let size = usize::try_from(fixture.json["num_generations"].as_u64().unwrap()).unwrap();
    let weights = fixture.json["reward_weights"].as_array().unwrap();
    let columns = fixture.json["reward_columns"].as_array().unwrap();
    let count = columns[0].as_array().unwrap().len();
    // A reward that is none counts nothing.
    let sum = |row: usize| -> f64 {
        let each = columns.iter().zip(weights);
        each.map(|(column, weight)| number(&column[row]) * number(weight))
            .filter(|it| !it.is_nan())
            .sum()
    };
    let rewards: Vec<f64> = (0..count).map(sum).collect();
    let groups: Vec<Vec<usize>> =
        (0..count / size).map(|group| (group * size..(group + 1) * size).collect()).collect();
    let cases: [(&str, &[Term]); 5] = [
        ("grpo.group", &[Term::GroupMean, Term::GroupDeviation]),
        ("grpo.batch", &[Term::GroupMean, Term::BatchDeviation]),
        ("grpo.none", &[Term::GroupMean]),
        ("rloo.plain", &[Term::LeaveOneOut]),
        ("rloo.normalized", &[Term::LeaveOneOut, Term::Whiten]),
    ];
    for (name, terms) in cases {
        let found = advantages(terms, &rewards, &groups);
        for (at, theirs) in
            list(fixture.tensor(&format!("advantages.{name}"))).into_iter().enumerate()
        {
            close(
                &format!("{name}, row {at}"),
                found[at],
                theirs,
                Within { relative: 1e-4, absolute: 1e-5 },
            );
        }
    }
}

#[test]
fn oracle_rloo() {
    let Some(fixture) = Fixture::open("losses/group_advantages") else { return };
    let case = &fixture.json["rloo_loss"];
    let Some(model) = fixture.model(case["policy"].as_str().unwrap()) else { return };
    let rows = rows(&fixture, "rloo_loss");
    let parts: Vec<&Example> = rows.iter().collect();
    let table = table_with_entropy(&model, &parts, 1.0);
    let width = table.mask.size()[1];
    // What sampled is known of whole completions: it counts as their first token's.
    let old = fixture.tensor("rloo_loss.old_logps").view([-1, 1]);
    let surrogate = Surrogate {
        loss: SurrogateLoss::Grpo,
        level: Level::Product,
        clip_low: number(&case["epsilon"]),
        clip_high: number(&case["epsilon"]),
        most: None,
        beta: 0.0,
        corrected: false,
        most_gap: None,
    };
    let sampled = Sampled {
        old: &old.constant_pad_nd([0, width - 1]),
        reference: None,
        advantages: &fixture.tensor("rloo_loss.advantages").view([-1, 1]),
        mask: &table.mask,
    };
    let lengths = list(&table.mask.sum_dim_intlist(1, false, Kind::Float));
    let step = Extent {
        tokens: lengths.iter().sum(),
        rows: rows.len() as f64,
        longest: width as f64,
        lengths,
    };
    let own = (&table.log_probs * &table.mask).sum_dim_intlist(1, false, Kind::Float);
    let theirs = fixture.tensor("rloo_loss.policy_seq_logps");
    assert!((own - theirs).abs().max().double_value(&[]) < 1e-3);
    let cost = surrogate.loss(&table.log_probs, &sampled, &step);
    compare("rloo", case, &model, &cost.sum, table.tail);
}
