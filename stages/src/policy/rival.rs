//! Whom a policy plays while it learns: what the rival says to the same prompts is sampled anew in each iteration, and rewards
//! `against: rival` hold the policy's completions against it. Nothing is learnt through what the rival says.

use std::collections::BTreeMap;

use gradus_protocol::Page;
use tch::Tensor;

use super::method::{Rival, Setting, Sizes};
use crate::{
    error::StageError,
    nn::{
        decoder::Model,
        generate::{Limits, generate_mixed},
        learner::Observer,
        sampling::Sampling,
        stream::Stream,
    },
    reward::contest::Reply,
    rollout::sampler::Ready,
};

impl Setting<'_> {
    /// What the rival says to the prompts `asked`, as often as the policy does; nothing where there is no rival. With `average`,
    /// the averaged weights.
    pub(super) fn rivals(
        &self,
        ready: &Ready,
        asked: &[usize],
        samples: usize,
        draws: Stream,
        average: Option<&BTreeMap<String, Tensor>>,
        observer: &dyn Observer,
    ) -> Result<Option<Vec<Vec<Reply>>>, StageError> {
        let Some(rival) = self.method.rival else { return Ok(None) };
        let policy = &self.policy.model;
        let averaged = average.filter(|_| rival == Rival::Average).map(|weights| Model {
            config: policy.config.clone(),
            parameters: weights
                .iter()
                .map(|(name, it)| (name.clone(), it.shallow_clone()))
                .collect(),
        });
        let mixed: Vec<(&Model, f64)> = match (rival, self.reference) {
            (Rival::Mixture(share), Some(reference)) => {
                let all = [(policy, 1.0 - share), (&reference.model, share)];
                all.into_iter().filter(|(_, share)| *share > 0.0).collect()
            }
            _ => vec![(averaged.as_ref().unwrap_or(policy), 1.0)],
        };
        let Sizes { max_new_tokens, temperature, prompts, .. } = self.sizes;
        // As the policy is sampled, or another game would be played.
        let sampling =
            Sampling { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };
        let each: Vec<&[u32]> =
            asked.iter().flat_map(|at| std::iter::repeat_n(ready.ids(*at), samples)).collect();
        let eos = policy.config.eos.as_slice();
        let limits =
            Limits { max_new_tokens, budgets: None, eos, rows: prompts * samples, steering: None };
        let draws = draws.rows(each.len()).collect();
        let heard = |_| observer.heard();
        let found =
            generate_mixed(&mixed, &each, draws, &sampling, &limits, &Page::blank(), heard)?;
        let mut replies = Vec::new();
        for (prompt, said) in each.iter().zip(found) {
            replies.push(Reply {
                text: self.policy.codec.continued(prompt, &said.ids)?,
                ended: said.ids.last().is_some_and(|last| eos.contains(last)),
            });
        }
        // Each completion of a prompt meets all that the rival said to it.
        let of_prompt = |group: &[Reply]| std::iter::repeat_n(group.to_vec(), samples);
        Ok(Some(replies.chunks(samples.max(1)).flat_map(of_prompt).collect()))
    }
}
