//! Beam search: of all completions the likeliest as a whole, as far as so many beginnings tell. The score is the sum of log p, which
//! nothing divides: by length it would be another search (Rafailov et al. 2024, "From r to Q*", section 4.2: of a policy that was
//! trained by DPO it is a search by the reward that it has learnt).

use gradus_protocol::Page;
use tch::{Device, Kind, Tensor};

use super::{
    batch::{Batch, Lie, as_i64},
    cache::Cache,
    decoder::Model,
    generate::{Completion, Limits},
    kept::kept,
};
use crate::error::StageError;

/// The beginning of a completion, or all of it.
#[derive(Debug, Clone, Default)]
struct Beam {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    score: f64,
}

/// What is known of a prompt's completions.
struct Search {
    /// Which prompt it is.
    prompt: usize,
    /// Beginnings that may go on, best first.
    live: Vec<Beam>,
    best: Option<Beam>,
}

/// The best completion of every prompt among `beams` beginnings. `report` hears how many prompts are done.
pub(crate) fn search(
    model: &Model,
    prompts: &[&[u32]],
    beams: usize,
    limits: &Limits,
    page: &Page,
    mut report: impl FnMut(usize) -> Result<(), StageError>,
) -> Result<Vec<Completion>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let budget = |row: usize| {
        let own = limits.budgets.and_then(|it| it.get(row)).copied();
        own.map_or(limits.max_new_tokens, |own| own.min(limits.max_new_tokens))
    };
    let budgets: Vec<usize> = (0..prompts.len()).map(budget).collect();
    let beside = (limits.rows / beams.max(1)).max(1);
    let mut completions = Vec::with_capacity(prompts.len());
    for (prompts, budgets) in prompts.chunks(beside).zip(budgets.chunks(beside)) {
        let done = completions.len();
        completions.extend(kept(page, &(prompts, budgets), || {
            complete(model, prompts, budgets, beams.max(1), limits, || report(done))
        })?);
        report(completions.len())?;
    }
    Ok(completions)
}

fn complete(
    model: &Model,
    prompts: &[&[u32]],
    budgets: &[usize],
    beams: usize,
    &Limits { eos, steering, .. }: &Limits,
    mut heard: impl FnMut() -> Result<(), StageError>,
) -> Result<Vec<Completion>, StageError> {
    let device = model.device();
    let batch = Batch::left(prompts, model.pad(), device);
    let new = budgets.iter().copied().max().unwrap_or(0);
    let mut cache = Cache::new(model, batch.rows(), batch.width());
    let read = model.hidden_after(&batch, &mut cache);
    let mut hidden = read.narrow(1, batch.width() - 1, 1);
    let mut last = batch.ids.narrow(1, batch.width() - 1, 1).squeeze_dim(1);
    let mut position = batch.positions.narrow(1, batch.width() - 1, 1);
    let begin = |prompt| Search { prompt, live: vec![Beam::default()], best: None };
    let mut searches: Vec<Search> = (0..prompts.len()).map(begin).collect();
    let mut completions = vec![Completion::default(); prompts.len()];
    let end = batch.width() + as_i64(new);
    for step in 0..new {
        heard()?;
        let mut logits = model.logits(&hidden).squeeze_dim(1);
        if let Some(steering) = steering {
            logits = steering.apply(&logits, &last);
        }
        let log_probs = logits.log_softmax(-1, Kind::Double);
        let log_probs = log_probs.to_device(Device::Cpu);
        let mut row = 0;
        let mut parents = Vec::new();
        for search in &mut searches {
            let own = log_probs.narrow(0, row, as_i64(search.live.len()));
            let from = search.step(&own, budgets[search.prompt], beams, eos);
            parents.extend(from.into_iter().map(|beam| row + as_i64(beam)));
            row += own.size()[0];
        }
        let (going, done): (Vec<Search>, Vec<Search>) =
            searches.into_iter().partition(|it| !it.live.is_empty());
        for search in done {
            completions[search.prompt] = search.best.unwrap_or_default().into();
        }
        searches = going;
        if searches.is_empty() {
            break;
        }
        let rows = Tensor::from_slice(&parents).to_device(device);
        // The first step leaves one beginning of every prompt, which becomes many.
        if step == 0 {
            cache = cache.spread(&rows, end);
        } else {
            cache.select(&rows);
        }
        let ids = searches.iter().flat_map(|it| &it.live);
        let ids: Vec<i64> = ids.filter_map(|it| it.ids.last()).map(|id| i64::from(*id)).collect();
        last = Tensor::from_slice(&ids).to_device(device);
        let ids = last.unsqueeze(1);
        position = position.index_select(0, &rows) + 1;
        let next = Batch {
            segments: Tensor::ones(ids.size(), (Kind::Int64, device)),
            positions: position.shallow_clone(),
            lie: Lie::Full,
            ids,
        };
        hidden = model.hidden_after(&next, &mut cache);
    }
    Ok(completions)
}

impl Search {
    /// Takes a token more, given log p of every next token of the live beginnings; says which of them each new one goes on from.
    /// None is left where nothing can become better than what is complete.
    fn step(&mut self, log_probs: &Tensor, budget: usize, beams: usize, eos: &[u32]) -> Vec<usize> {
        let vocabulary = log_probs.size()[1];
        let before: Vec<f64> = self.live.iter().map(|it| it.score).collect();
        let scores = (log_probs + Tensor::from_slice(&before).unsqueeze(1)).flatten(0, -1);
        // As many as are surely enough: each beginning may end in every end token.
        let most = as_i64(beams + self.live.len() * eos.len()).min(scores.size()[0]);
        let (scores, places) = scores.topk(most, 0, true, true);
        let flat = log_probs.flatten(0, -1).index_select(0, &places);
        let scores = Vec::<f64>::try_from(scores).expect("scores are float64");
        let places = Vec::<i64>::try_from(places).expect("indices are int64");
        let own = Vec::<f64>::try_from(flat).expect("log-probabilities are float64");
        let (mut next, mut from) = (Vec::new(), Vec::new());
        for ((score, place), log_prob) in scores.into_iter().zip(places).zip(own) {
            if !score.is_finite() {
                break;
            }
            let beam = usize::try_from(place / vocabulary).unwrap_or(0);
            let id = u32::try_from(place % vocabulary).expect("ids fit 32 bits");
            let mut longer = self.live[beam].clone();
            longer.ids.push(id);
            #[expect(clippy::cast_possible_truncation, reason = "log-probabilities are float32")]
            longer.log_probs.push(log_prob as f32);
            longer.score = score;
            if eos.contains(&id) || longer.ids.len() == budget {
                if self.best.as_ref().is_none_or(|best| score > best.score) {
                    self.best = Some(longer);
                }
            } else if next.len() < beams {
                next.push(longer);
                from.push(beam);
            }
        }
        // No token makes a beginning likelier.
        let ahead = |beam: &Beam| self.best.as_ref().is_none_or(|best| beam.score > best.score);
        let kept: Vec<bool> = next.iter().map(ahead).collect();
        let mut keep = kept.iter();
        next.retain(|_| *keep.next().unwrap_or(&false));
        self.live = next;
        from.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(beam, _)| beam).collect()
    }
}

impl From<Beam> for Completion {
    fn from(beam: Beam) -> Self {
        let sampling_log_probs = vec![0.0; beam.ids.len()];
        Self { ids: beam.ids, log_probs: beam.log_probs, sampling_log_probs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{config::tests::tiny, generate::generate, sampling::Sampling, stream::Stream};

    const LIMITS: Limits<'_> =
        Limits { max_new_tokens: 3, budgets: None, eos: &[1], rows: 64, steering: None };

    fn model() -> Model {
        let model = Model::fresh(tiny(), Stream::of(5), Device::Cpu);
        // Far from even odds, so that greedy is not best.
        tch::no_grad(|| {
            let _ = model.parameters["lm_head.weight"].shallow_clone().g_mul_scalar_(40.0);
        });
        model
    }

    fn found(beams: usize, limits: &Limits) -> Vec<Completion> {
        let prompts = [&[2_u32, 3][..], &[4], &[7, 8, 9]];
        search(&model(), &prompts, beams, limits, &Page::blank(), |_| Ok(())).unwrap()
    }

    fn score(completion: &Completion) -> f64 {
        completion.log_probs.iter().map(|it| f64::from(*it)).sum()
    }

    /// The best of all completions of up to three tokens.
    fn best(model: &Model, prompt: &[u32], so_far: f64, left: usize) -> f64 {
        let batch = Batch::right(&[prompt], 0, Device::Cpu);
        let logits = model.logits(&model.hidden(&batch));
        let last = logits.squeeze_dim(0).narrow(0, as_i64(prompt.len()) - 1, 1);
        let log_probs =
            Vec::<f64>::try_from(last.log_softmax(-1, Kind::Double).squeeze_dim(0)).unwrap();
        let each = log_probs.iter().zip(0_u32..).map(|(log_prob, id)| {
            let score = so_far + log_prob;
            let longer = [prompt, &[id]].concat();
            if id == 1 || left == 1 { score } else { best(model, &longer, score, left - 1) }
        });
        each.fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn with_room_for_all_it_finds_the_best_and_with_one_it_is_greedy() {
        let model = model();
        let prompts = [&[2_u32, 3][..], &[4], &[7, 8, 9]];
        let _no_grad = tch::no_grad_guard();
        for (found, prompt) in found(256, &LIMITS).iter().zip(prompts) {
            let by_hand = best(&model, prompt, 0.0, 3);
            assert!((score(found) - by_hand).abs() < 1e-4, "{found:?} {by_hand}");
        }
        let draws = Stream::of(4).rows(3).collect();
        let greedy =
            generate(&model, &prompts, draws, &Sampling::GREEDY, &LIMITS, &Page::blank(), |_| {
                Ok(())
            });
        let ids = |all: Vec<Completion>| all.into_iter().map(|it| it.ids).collect::<Vec<_>>();
        assert_eq!(ids(found(1, &LIMITS)), ids(greedy.unwrap()));
    }

    #[test]
    fn a_search_is_the_same_in_any_company_and_heeds_budgets() {
        let alone = Limits { rows: 1, max_new_tokens: 6, ..LIMITS };
        let together = Limits { rows: 64, ..alone };
        let ids = |limits| found(4, limits).into_iter().map(|it| it.ids).collect::<Vec<_>>();
        assert_eq!(ids(&alone), ids(&together));
        let short = Limits { budgets: Some(&[2, 6, 1]), ..together };
        let lengths: Vec<usize> = found(4, &short).iter().map(|it| it.ids.len()).collect();
        assert!(lengths[0] <= 2 && lengths[2] == 1, "{lengths:?}");
    }
}
