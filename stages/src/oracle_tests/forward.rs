//! Logits, log-probabilities, entropy, padding, packing and greedy decoding of every known model.

use tch::{Device, Kind, Tensor};

use super::{Fixture, LOG_PROBS, all_close, logprob};
use crate::{
    nn::{
        batch::{Batch, as_i64},
        decoder::Model,
        generate::{Limits, generate},
        sampling::Sampling,
        stream::Stream,
    },
    oracles,
};

/// Fixtures in `forward/` whose model can be loaded.
fn fixtures() -> Vec<(String, Fixture, Model)> {
    let Some(root) = oracles::folder() else { return Vec::new() };
    let entries = std::fs::read_dir(root.join("forward")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    let open = |name: String| {
        let fixture = Fixture::open(&format!("forward/{name}"))?;
        if !fixture.tensors.contains_key("right.input_ids") {
            println!("skipped: forward/{name} is about something else");
            return None;
        }
        let model = fixture.model(&format!("models/{name}"))?;
        Some((name, fixture, model))
    };
    let fixtures: Vec<_> = names.into_iter().filter_map(open).collect();
    assert!(!fixtures.is_empty(), "none of the models is ours: nothing would be compared");
    fixtures
}

fn next(mask: &Tensor) -> Tensor {
    mask.narrow(1, 1, mask.size()[1] - 1)
}

fn batch(fixture: &Fixture, side: &str) -> (Batch, Tensor) {
    let ids = fixture.tensor(&format!("{side}.input_ids")).shallow_clone();
    let mask = fixture.tensor(&format!("{side}.attention_mask"));
    (Batch::masked(ids, mask), mask.shallow_clone())
}

#[test]
fn oracle_forward_right_padding() {
    for (name, fixture, model) in fixtures() {
        let (batch, mask) = batch(&fixture, "right");
        let logits = model.logits(&model.hidden(&batch));
        let theirs = fixture.tensor("right.logits");
        all_close(&name, &logits, theirs, Some(&mask.unsqueeze(-1)), LOG_PROBS);
        let log_probs = logprob::next_token(&model, &batch);
        let real = next(&mask);
        all_close(&name, &log_probs, fixture.tensor("right.token_logps"), Some(&real), LOG_PROBS);
        let entropy = logprob::entropy(&logits.narrow(1, 0, batch.width() - 1));
        all_close(&name, &entropy, fixture.tensor("right.entropy"), Some(&real), LOG_PROBS);
    }
}

#[test]
fn oracle_forward_left_padding() {
    for (name, fixture, model) in fixtures() {
        let (batch, mask) = batch(&fixture, "left");
        let (ours, theirs) = (&batch.positions, fixture.tensor("left.position_ids"));
        let real = mask.to_kind(Kind::Int64);
        assert_eq!(ours * &real, theirs * &real, "{name}: positions of real tokens");
        let hidden = model.hidden(&batch);
        let last = model.logits(&hidden.narrow(1, batch.width() - 1, 1)).squeeze_dim(1);
        all_close(&name, &last, fixture.tensor("left.last_logits"), None, LOG_PROBS);
        // The first real token of a row has nothing real before it.
        let known = next(&mask) * mask.narrow(1, 0, batch.width() - 1);
        let log_probs = logprob::next_token(&model, &batch);
        all_close(&name, &log_probs, fixture.tensor("left.token_logps"), Some(&known), LOG_PROBS);
    }
}

#[test]
fn oracle_forward_packed() {
    for (name, fixture, model) in fixtures() {
        let ids = Vec::<i64>::try_from(fixture.tensor("packed.input_ids").flatten(0, -1)).unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
        let ends = Vec::<i64>::try_from(fixture.tensor("packed.cu_seqlens")).unwrap();
        let ends: Vec<usize> = ends.into_iter().map(|end| usize::try_from(end).unwrap()).collect();
        let bin: Vec<&[u32]> = ends.windows(2).map(|ends| &ids[ends[0]..ends[1]]).collect();
        let batch = Batch::packed(&[&bin], model.pad(), Device::Cpu);
        assert_eq!(&batch.positions, fixture.tensor("packed.position_ids"), "{name}");
        let log_probs = logprob::next_token(&model, &batch);
        let theirs = fixture.tensor("packed.token_logps");
        all_close(&name, &log_probs, theirs, Some(&batch.continues()), LOG_PROBS);
    }
}

#[test]
fn oracle_forward_greedy() {
    for (name, fixture, model) in fixtures() {
        let greedy = &fixture.json["greedy"];
        let rows = |name: &str| Vec::<Vec<i64>>::try_from(fixture.tensor(name)).unwrap();
        let (ids, mask) = (rows("greedy.prompt_ids"), rows("greedy.prompt_mask"));
        let prompts: Vec<Vec<u32>> = ids
            .iter()
            .zip(&mask)
            .map(|(ids, mask)| {
                let real = ids.iter().zip(mask).filter(|(_, mask)| **mask == 1);
                real.map(|(id, _)| u32::try_from(*id).unwrap()).collect()
            })
            .collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let eos: Vec<u32> = serde_json::from_value(greedy["eos_token_ids"].clone()).unwrap();
        let max_new_tokens: usize =
            serde_json::from_value(greedy["max_new_tokens"].clone()).unwrap();
        let limits = Limits {
            max_new_tokens,
            budgets: None,
            eos: &eos,
            rows: prompts.len(),
            steering: None,
        };
        let streams = Stream::of(0).rows(prompts.len()).collect();
        let ours = generate(
            &model,
            &prompts,
            streams,
            &Sampling::GREEDY,
            &limits,
            &gradus_protocol::Page::blank(),
            |_| Ok(()),
        )
        .unwrap();
        let lengths: Vec<usize> = serde_json::from_value(greedy["lengths"].clone()).unwrap();
        let (sequences, log_probs) =
            (rows("greedy.sequences"), fixture.tensor("greedy.token_logps"));
        for (row, ours) in ours.iter().enumerate() {
            let start = ids[row].len();
            let theirs = &sequences[row][start..start + lengths[row]];
            let drawn: Vec<i64> = ours.ids.iter().map(|id| i64::from(*id)).collect();
            assert_eq!(drawn, theirs, "{name}: row {row}");
            let theirs = log_probs.get(as_i64(row)).narrow(0, 0, as_i64(lengths[row]));
            all_close(&name, &Tensor::from_slice(&ours.log_probs), &theirs, None, LOG_PROBS);
        }
    }
}

#[test]
fn oracle_forward_the_older_spelling_of_a_configuration() {
    let Some(root) = oracles::folder() else { return };
    for entry in std::fs::read_dir(root.join("models")).unwrap() {
        let folder = entry.unwrap().path();
        let read = |name: &str| {
            let text = std::fs::read(folder.join(name)).ok()?;
            Some(crate::nn::config::Config::parse(&text).unwrap())
        };
        if let Some(old) = read("config.v4.json") {
            assert_eq!(Some(old), read("config.json"), "{}", folder.display());
        }
    }
}
