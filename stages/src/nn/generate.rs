//! Completions of many prompts at once, with a key-value cache.
//!
//! Each row has a stream of its own, so what it draws does not hang on its neighbours.

use gradus_protocol::Page;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    batch::{Batch, Lie, as_i64},
    cache::Cache,
    decoder::Model,
    distinct::distinct,
    kept::kept,
    logprob,
    sampling::{Sampling, draw},
    steering::Steering,
    stream::Stream,
};
use crate::error::StageError;

/// Rows that ended are dropped at most this often: each time, the host waits for the device.
const DROP_EVERY: usize = 8;

pub(crate) struct Limits<'a> {
    pub(crate) max_new_tokens: usize,
    /// Of every prompt, where some may have fewer new tokens than others.
    pub(crate) budgets: Option<&'a [usize]>,
    pub(crate) eos: &'a [u32],
    /// Prompts that are completed side by side; more of them need more memory.
    pub(crate) rows: usize,
    /// What is asked of the model while it writes.
    pub(crate) steering: Option<&'a Steering>,
}

/// What followed a prompt, the end token included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Completion {
    pub(crate) ids: Vec<u32>,
    /// log p of each token under the model's own distribution, before temperature and filters.
    pub(crate) log_probs: Vec<f32>,
    /// log p of each token under the distribution that it was drawn from; 0 where none was drawn, as the
    /// most likely was taken.
    pub(crate) sampling_log_probs: Vec<f32>,
}

/// Completes every prompt, each with what its stream draws. `report` hears how many rows are done. Prompts that are
/// completed side by side are on `page`, which is of this model, this sampling and these limits, or are computed.
pub(crate) fn generate(
    model: &Model,
    prompts: &[&[u32]],
    draws: Vec<Stream>,
    sampling: &Sampling,
    limits: &Limits,
    page: &Page,
    report: impl FnMut(usize) -> Result<(), StageError>,
) -> Result<Vec<Completion>, StageError> {
    generate_mixed(&[(model, 1.0)], prompts, draws, sampling, limits, page, report)
}

/// The same by several models of one vocabulary, each with its weight: a token comes from their geometric mixture, `∝ Π p^w`, and it
/// is the mixture that log-probabilities are under. With weights that add up to 1 it lies between the models.
pub(crate) fn generate_mixed(
    models: &[(&Model, f64)],
    prompts: &[&[u32]],
    draws: Vec<Stream>,
    sampling: &Sampling,
    limits: &Limits,
    page: &Page,
    mut report: impl FnMut(usize) -> Result<(), StageError>,
) -> Result<Vec<Completion>, StageError> {
    let _no_grad = tch::no_grad_guard();
    if let Some(empty) = prompts.iter().position(|prompt| prompt.is_empty()) {
        return Err(StageError::refused(format!(
            "prompt {} is empty: it needs a token",
            empty + 1
        )));
    }
    let budget = |row: usize| {
        let own = limits.budgets.and_then(|it| it.get(row)).copied();
        own.map_or(limits.max_new_tokens, |own| own.min(limits.max_new_tokens))
    };
    let budgets: Vec<usize> = (0..prompts.len()).map(budget).collect();
    let context = context_of(models);
    let length = |row: &usize| prompts[*row].len() + budgets[*row];
    if let Some(row) = (0..prompts.len()).max_by_key(length)
        && as_i64(length(&row)) > context
    {
        return Err(StageError::refused(format!(
            "a prompt of {} tokens and {} new ones do not fit the model's context of {context}",
            prompts[row].len(),
            budgets[row]
        )));
    }
    let mut completions = Vec::with_capacity(prompts.len());
    let mut draws = draws.into_iter();
    let rows = limits.rows.max(1);
    for (rows, budgets) in prompts.chunks(rows).zip(budgets.chunks(rows)) {
        let own: Vec<Stream> = draws.by_ref().take(rows.len()).collect();
        let names: Vec<String> = own.iter().map(Stream::name).collect();
        let done = completions.len();
        completions.extend(kept(page, &(rows, names, budgets), || {
            let most = budgets.iter().copied().max().unwrap_or(0);
            let uniforms = uniforms(own.into_iter(), most);
            complete(models, rows, budgets, &uniforms, sampling, limits, || report(done))
        })?);
        report(completions.len())?;
    }
    Ok(completions)
}

/// The most tokens of a row.
fn context_of(models: &[(&Model, f64)]) -> i64 {
    models.iter().map(|(model, _)| model.config.context_length).min().unwrap_or(0)
}

/// The logits of the mixture: of one model its own.
fn mixed(models: &[(&Model, f64)], hidden: &[Tensor]) -> Tensor {
    let own = |((model, _), hidden): (&(&Model, f64), &Tensor)| model.logits(hidden).squeeze_dim(1);
    if let ([model], [hidden]) = (models, hidden) {
        return own((model, hidden));
    }
    let weighed = models.iter().zip(hidden).map(|(it, hidden)| own((it, hidden)) * it.1);
    weighed.reduce(|all, one| all + one).expect("some model speaks")
}

fn complete(
    models: &[(&Model, f64)],
    prompts: &[&[u32]],
    budgets: &[usize],
    uniforms: &Tensor,
    sampling: &Sampling,
    &Limits { eos, steering, .. }: &Limits,
    mut heard: impl FnMut() -> Result<(), StageError>,
) -> Result<Vec<Completion>, StageError> {
    let first = models[0].0;
    let device = first.device();
    let (different, of) = distinct(prompts);
    let of: Vec<i64> = of.into_iter().map(as_i64).collect();
    let of = Tensor::from_slice(&of).to_device(device);
    let batch = Batch::left(&different, first.pad(), device);
    let new = budgets.iter().copied().max().unwrap_or(0);
    let own: Vec<i64> = budgets.iter().copied().map(as_i64).collect();
    let mut left = Tensor::from_slice(&own).to_device(device);
    // A row at its budget goes on until the next time that rows are dropped, and what it says then is dropped, too.
    let last_place = context_of(models) - 1;
    // Completions of one prompt share what was read of it.
    let read = |(model, _): &(&Model, f64)| {
        let mut cache = Cache::new(model, batch.rows(), batch.width());
        let read = model.hidden_after(&batch, &mut cache);
        let hidden = read.narrow(1, batch.width() - 1, 1).index_select(0, &of);
        (cache.spread(&of, batch.width() + as_i64(new)), hidden)
    };
    let (mut caches, mut hidden): (Vec<Cache>, Vec<Tensor>) = models.iter().map(read).unzip();
    let mut uniforms = uniforms.to_device(device);
    let mut live: Vec<usize> = (0..prompts.len()).collect();
    let mut ended = Tensor::zeros([of.size()[0]], (Kind::Bool, device));
    let mut position = batch.positions.narrow(1, batch.width() - 1, 1).index_select(0, &of);
    // The repetition penalty must not count padding, which hangs on the neighbours: the prompt's last
    // token stands in for it.
    let last = batch.ids.narrow(1, batch.width() - 1, 1);
    let mut seen = batch.ids.where_self(&batch.segments.gt(0), &last).index_select(0, &of);
    let mut pending: Vec<(Tensor, Tensor)> = Vec::new();
    let mut completions = vec![Completion::default(); prompts.len()];
    for step in 0..new {
        let logits = mixed(models, &hidden);
        let mut filtered = sampling.filter(&logits, &seen);
        if let Some(steering) = steering {
            let last = seen.narrow(1, seen.size()[1] - 1, 1).squeeze_dim(1);
            filtered = steering.apply(&filtered, &last);
        }
        let ids = if sampling.is_greedy() {
            filtered.argmax(1, false)
        } else {
            draw(&filtered, &uniforms.narrow(1, as_i64(step), 1).squeeze_dim(1))
        };
        let own = logprob::of_tokens(&logits, &ids);
        let drawn = if sampling.is_greedy() {
            own.zeros_like()
        } else if sampling.is_plain() && steering.is_none() {
            own.shallow_clone()
        } else {
            logprob::of_tokens(&filtered, &ids)
        };
        let log_probs = Tensor::stack(&[own, drawn], 1);
        pending.push((ids.shallow_clone(), log_probs));
        for eos in eos {
            ended = ended.logical_or(&ids.eq(i64::from(*eos)));
        }
        left -= 1;
        ended = ended.logical_or(&left.le(0));
        let last = step + 1 == new;
        let mut ids = ids.unsqueeze(1);
        if last || (step + 1) % DROP_EVERY == 0 {
            heard()?;
            flush(&mut pending, &live, eos, budgets, &mut completions);
            let going = ended.logical_not().nonzero().squeeze_dim(1);
            let count = going.size()[0];
            if last || count == 0 {
                break;
            }
            if count < as_i64(live.len()) {
                let kept = Vec::<i64>::try_from(&going).expect("indices are int64");
                live = kept.iter().map(|i| live[usize::try_from(*i).unwrap_or(0)]).collect();
                for cache in &mut caches {
                    cache.select(&going);
                }
                let select = |x: &Tensor| x.index_select(0, &going);
                (ids, seen, position) = (select(&ids), select(&seen), select(&position));
                (uniforms, ended, left) = (select(&uniforms), select(&ended), select(&left));
            }
        }
        position = (position + 1).clamp_max(last_place);
        seen = Tensor::cat(&[&seen, &ids], 1);
        let next = Batch {
            segments: Tensor::ones(ids.size(), (Kind::Int64, device)),
            positions: position.shallow_clone(),
            lie: Lie::Full,
            ids,
        };
        let after =
            |((model, _), cache): (&(&Model, f64), &mut Cache)| model.hidden_after(&next, cache);
        hidden = models.iter().zip(&mut caches).map(after).collect();
    }
    Ok(completions)
}

/// Moves the tokens drawn since the last time to their rows, up to the first end token.
fn flush(
    pending: &mut Vec<(Tensor, Tensor)>,
    live: &[usize],
    eos: &[u32],
    budgets: &[usize],
    completions: &mut [Completion],
) {
    let (ids, log_probs): (Vec<_>, Vec<_>) = pending.drain(..).unzip();
    let steps = ids.len();
    let ids = Tensor::stack(&ids, 1).to_device(Device::Cpu).flatten(0, -1);
    let log_probs = Tensor::stack(&log_probs, 1).to_device(Device::Cpu).flatten(0, -1);
    let ids = Vec::<i64>::try_from(ids).expect("ids are int64");
    let log_probs = Vec::<f32>::try_from(log_probs).expect("log-probabilities are float32");
    for (i, (id, log_probs)) in ids.into_iter().zip(log_probs.chunks(2)).enumerate() {
        let row = live[i / steps];
        let (budget, row) = (budgets[row], &mut completions[row]);
        if row.ids.len() < budget && row.ids.last().is_none_or(|last| !eos.contains(last)) {
            row.ids.push(u32::try_from(id).expect("ids fit 32 bits"));
            row.log_probs.push(log_probs[0]);
            row.sampling_log_probs.push(log_probs[1]);
        }
    }
}

/// A uniform number for every step of every row: [rows, steps].
fn uniforms(rows: impl Iterator<Item = Stream>, steps: usize) -> Tensor {
    let values: Vec<f64> = rows.flat_map(|row| row.uniforms(steps)).collect();
    Tensor::from_slice(&values).view([-1, as_i64(steps)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::config::tests::tiny;

    fn sample(rows: usize, sampling: &Sampling) -> Vec<Vec<u32>> {
        let model = Model::fresh(tiny(), Stream::of(5), Device::Cpu);
        let prompts: Vec<Vec<u32>> = (0..20).map(|i| vec![2 + i % 9; 1 + i as usize % 3]).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let limits = Limits { max_new_tokens: 20, budgets: None, eos: &[1], rows, steering: None };
        let draws = Stream::of(4).rows(prompts.len()).collect();
        let completions =
            generate(&model, &prompts, draws, sampling, &limits, &Page::blank(), |_| Ok(()))
                .unwrap();
        completions.into_iter().map(|completion| completion.ids).collect()
    }

    #[test]
    fn a_row_draws_the_same_tokens_in_any_company() {
        assert_eq!(sample(20, &Sampling::PLAIN), sample(3, &Sampling::PLAIN));
        assert_eq!(sample(20, &Sampling::GREEDY), sample(1, &Sampling::GREEDY));
        let averse = Sampling { repetition_penalty: 3.0, ..Sampling::PLAIN };
        assert_eq!(sample(20, &averse), sample(1, &averse));
    }

    #[test]
    fn a_prompt_is_read_once_for_all_its_completions() {
        let [a, b] = [&[2_u32, 3][..], &[4]];
        let model = Model::fresh(tiny(), Stream::of(5), Device::Cpu);
        let limits =
            |rows| Limits { max_new_tokens: 9, budgets: None, eos: &[1], rows, steering: None };
        let found = |rows| {
            let (draws, blank) = (Stream::of(4).rows(5).collect(), Page::blank());
            let prompts = [a, a, b, a, b];
            generate(&model, &prompts, draws, &Sampling::PLAIN, &limits(rows), &blank, |_| Ok(()))
                .unwrap()
        };
        for (one, other) in found(5).iter().zip(&found(1)) {
            assert_eq!(one.ids, other.ids);
            let both = one.log_probs.iter().zip(&other.log_probs);
            assert!(both.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn a_mixture_lies_between_its_models() {
        let [one, other] = [5, 6].map(|seed| Model::fresh(tiny(), Stream::of(seed), Device::Cpu));
        let limits =
            Limits { max_new_tokens: 9, budgets: None, eos: &[1], rows: 4, steering: None };
        let found = |models: &[(&Model, f64)]| {
            let draws = Stream::of(4).rows(3).collect();
            let (prompts, blank) = ([&[2_u32, 3][..], &[4], &[2, 3]], Page::blank());
            generate_mixed(models, &prompts, draws, &Sampling::PLAIN, &limits, &blank, |_| Ok(()))
                .unwrap()
        };
        let ids = |of: Vec<Completion>| of.into_iter().map(|it| it.ids).collect::<Vec<_>>();
        assert_eq!(ids(found(&[(&one, 1.0), (&other, 0.0)])), ids(found(&[(&one, 1.0)])));
        assert_eq!(ids(found(&[(&one, 0.0), (&other, 1.0)])), ids(found(&[(&other, 1.0)])));
        // Of what it says to the first prompt, each token by hand: softmax(¼ a + ¾ b).
        let said = found(&[(&one, 0.25), (&other, 0.75)]).remove(0);
        let row = [vec![2, 3], said.ids.clone()].concat();
        let logits = [(&one, 0.25), (&other, 0.75)].map(|(model, weight)| {
            let batch = Batch::right(&[row.as_slice()], 0, Device::Cpu);
            model.logits(&model.hidden(&batch)).squeeze_dim(0) * weight
        });
        let logs = (&logits[0] + &logits[1]).log_softmax(-1, Kind::Double);
        for (at, (id, log_prob)) in said.ids.iter().zip(&said.log_probs).enumerate() {
            let by_hand = logs.double_value(&[as_i64(at) + 1, i64::from(*id)]);
            assert!((by_hand - f64::from(*log_prob)).abs() < 1e-5);
        }
    }

    #[test]
    fn log_probabilities_are_of_the_model_and_of_what_was_drawn_from() {
        let model = Model::fresh(tiny(), Stream::of(5), Device::Cpu);
        let limits =
            Limits { max_new_tokens: 9, budgets: None, eos: &[1], rows: 4, steering: None };
        let found = |sampling: Sampling| {
            let draws = Stream::of(4).rows(2).collect();
            generate(
                &model,
                &[&[2, 3], &[4]],
                draws,
                &sampling,
                &limits,
                &Page::blank(),
                |_| Ok(()),
            )
            .unwrap()
        };
        for row in found(Sampling::PLAIN) {
            assert_eq!(row.log_probs, row.sampling_log_probs);
        }
        // One of two tokens at each place, so neither side is less likely than before.
        for row in found(Sampling { top_k: 2, ..Sampling::PLAIN }) {
            assert!(row.log_probs.iter().zip(&row.sampling_log_probs).all(|(own, it)| own < it));
        }
        for row in found(Sampling::GREEDY) {
            assert!(row.log_probs.iter().all(|it| *it < 0.0));
            assert_eq!(row.sampling_log_probs, vec![0.0; row.ids.len()]);
        }
    }

    #[test]
    fn a_row_says_no_more_than_its_budget_and_the_same_up_to_there() {
        let model = Model::fresh(tiny(), Stream::of(5), Device::Cpu);
        let prompts: Vec<&[u32]> = vec![&[2, 3]; 12];
        let found = |budgets: Option<&[usize]>| {
            let limits =
                Limits { max_new_tokens: 14, budgets, eos: &[1], rows: 12, steering: None };
            let draws = Stream::of(4).rows(12).collect();
            let blank = Page::blank();
            generate(&model, &prompts, draws, &Sampling::PLAIN, &limits, &blank, |_| Ok(()))
                .unwrap()
        };
        let whole = found(None);
        assert!(whole.iter().any(|row| row.ids.len() == 14));
        let budgets: Vec<usize> = (1..=12).collect();
        for ((row, whole), budget) in found(Some(&budgets)).iter().zip(&whole).zip(budgets) {
            let length = budget.min(whole.ids.len());
            assert_eq!(row.ids, whole.ids[..length]);
            assert_eq!(row.log_probs.len(), length);
        }
        // A context that the longest budget would leave.
        let context = usize::try_from(model.config.context_length).unwrap();
        let long = vec![2; context - 3];
        let limits = Limits {
            max_new_tokens: 14,
            budgets: Some(&[3, 14]),
            eos: &[],
            rows: 2,
            steering: None,
        };
        let draws = || Stream::of(4).rows(2).collect();
        let prompts: [&[u32]; 2] = [&long, &[2]];
        let blank = Page::blank();
        let rows =
            generate(&model, &prompts, draws(), &Sampling::PLAIN, &limits, &blank, |_| Ok(()))
                .unwrap();
        assert_eq!([rows[0].ids.len(), rows[1].ids.len()], [3, 14]);
        let all = Limits { budgets: None, ..limits };
        let error = generate(&model, &prompts, draws(), &Sampling::PLAIN, &all, &blank, |_| Ok(()));
        assert!(error.unwrap_err().to_string().contains("do not fit"));
    }

    #[test]
    fn a_row_ends_with_its_first_end_token() {
        let rows = sample(20, &Sampling::PLAIN);
        assert!(rows.iter().any(|row| row.len() < 20));
        for row in rows {
            let end = row.iter().position(|id| *id == 1);
            assert_eq!(row.len(), end.map_or(20, |end| end + 1));
        }
    }
}
