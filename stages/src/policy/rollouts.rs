//! The first half of an iteration: the policy answers, is judged, and every token of what it said gets its numbers. What
//! comes of it is a table with a row for each completion, and which of them are learnt from.

use std::collections::BTreeMap;

use gradus_protocol::Page;
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::{
    credit::{Credited, whiten},
    critic::all_values,
    method::{Setting, Sizes},
    sequences::{Table, by_row, table},
    shaping::Shaper,
};
use crate::{
    error::StageError,
    nn::{
        batch::Example,
        batches,
        decoder::Model,
        generate::{Completion, Limits, generate},
        learner::Observer,
        sampling::Sampling,
        statistics::mean,
        stream::Stream,
    },
    reward::sources::alike,
    rollout::trajectories::{Author, Span, Tokens, Trajectory, groups, of_prompt},
};

/// What an iteration is learnt from. Numbers of tokens have a row for each completion.
pub(super) struct Rollouts {
    pub(super) rows: Vec<Example>,
    /// log p of what sampled.
    pub(super) old: Vec<Vec<f64>>,
    pub(super) reference: Option<Vec<Vec<f64>>>,
    /// What the critic expected.
    pub(super) values: Option<Vec<Vec<f64>>>,
    pub(super) credited: Credited,
    /// Which rows are learnt from, together with those that they are compared with.
    pub(super) kept: Vec<Vec<usize>>,
    /// What is to be seen of them.
    pub(super) metrics: Map<String, Value>,
    /// Mean divergence of a completion from the reference, in nats.
    pub(super) kl: f64,
    /// Some to be read.
    pub(super) samples: Vec<Trajectory>,
}

/// Where random choices of one iteration come from.
pub(super) struct Draws {
    pub(super) samples: Stream,
    pub(super) resets: Stream,
    pub(super) filter: Stream,
}

impl Setting<'_> {
    /// Completes the prompts `asked`, and gives every token its numbers.
    pub(super) fn rollouts(
        &self,
        asked: &[usize],
        draws: Draws,
        shown: usize,
        shaper: &mut Shaper,
        observer: &dyn Observer,
    ) -> Result<Rollouts, StageError> {
        let mut trajectories = self.sampled(asked, draws.samples, draws.resets, observer)?;
        let mut heard = |_, _| observer.heard();
        let judged =
            self.rewards.judge(self.expression, &mut trajectories, self.judges, &mut heard)?;
        let row = |it: &Trajectory| {
            let ids = it.tokens.ids.clone();
            let own = ids.len() - it.tokens.of_policy();
            Example::after_prompt(ids, own)
        };
        let rows: Vec<Example> = trajectories.iter().map(row).collect();
        let old: Vec<Vec<f64>> = trajectories.iter().map(|it| self.old(it)).collect();
        let log_probs = |table: Table| table.log_probs;
        let reference = self.reference.map(|it| self.thought(it, &rows, log_probs, observer));
        let reference = reference.transpose()?;
        let values = self.critic.map(|it| all_values(&it.model, &rows, || observer.heard()));
        let values = values.transpose()?;

        let shaping = &self.method.shaping;
        let worth = shaper.scaled(shaping, &judged);
        let divergences = match &reference {
            Some(reference) => both(&old, reference, |p, q| shaping.estimator.of(p, q)),
            None => old.iter().map(|own| vec![0.0; own.len()]).collect(),
        };
        let token_rewards = shaper.by_token(shaping, &worth, &divergences);
        let by_prompt = groups(&trajectories);
        let compared = self.compared(&by_prompt);
        let mut credited = self.method.credit.of(&token_rewards, values.as_deref(), &compared);
        let kept = self.kept(&by_prompt, &judged, draws.filter);
        if let Some(modulation) = self.method.modulation {
            let entropy = |table: Table| table.entropy;
            let entropies = self.thought(&self.policy.model, &rows, entropy, observer)?;
            modulation.apply(&mut credited.advantages, &entropies, &kept.concat());
        }
        if self.method.whiten {
            whiten(&mut credited.advantages, &kept.concat());
        }
        if let Some(most) = self.method.advantage_clip {
            credited.advantages.iter_mut().flatten().for_each(|it| *it = it.clamp(-most, most));
        }

        let mut metrics = self.seen(&trajectories, &judged);
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value.into());
        put("perplexity", (-mean(&old.concat())).exp());
        let mut kl = 0.0;
        if let Some(reference) = &reference {
            let gaps = both(&old, reference, |p, q| p - q);
            kl = gaps.iter().flatten().sum::<f64>() / gaps.len().max(1) as f64;
            put("kl_completion", kl);
            put("reference_perplexity", (-mean(&reference.concat())).exp());
            put("kl_coefficient", shaper.kl);
        }
        put("reward_shaped", mean(&worth));
        put("advantage", mean(&credited.advantages.concat()));
        if let Some(values) = &values {
            put("value", mean(&values.concat()));
            put("return", mean(&credited.returns.concat()));
        }
        put("kept", kept.concat().len() as f64);
        trajectories.truncate(shown);
        Ok(Rollouts {
            rows,
            old,
            reference,
            values,
            credited,
            kept,
            metrics,
            kl,
            samples: trajectories,
        })
    }

    fn sampled(
        &self,
        asked: &[usize],
        draws: Stream,
        resets: Stream,
        observer: &dyn Observer,
    ) -> Result<Vec<Trajectory>, StageError> {
        let Sizes { samples, max_new_tokens, .. } = self.sizes;
        let each = asked.iter().flat_map(|at| std::iter::repeat_n(*at, samples));
        let given = |(at, draws): (usize, Stream)| match self.resets {
            Some(it) => it.begin(at, max_new_tokens, &mut draws.generator()),
            None => &[],
        };
        let given: Vec<&[u32]> =
            each.clone().zip(resets.rows(asked.len() * samples)).map(given).collect();
        let before: Vec<Vec<u32>> =
            each.zip(&given).map(|(at, given)| [self.prompts.ids(at), given].concat()).collect();
        let before: Vec<&[u32]> = before.iter().map(Vec::as_slice).collect();
        let budgets: Vec<usize> = given.iter().map(|it| max_new_tokens - it.len()).collect();
        let draws = draws.rows(before.len()).collect();
        let eos = self.policy.model.config.eos.as_slice();
        let rows = before.len();
        let limits = Limits { max_new_tokens, budgets: Some(&budgets), eos, rows };
        // The policy itself, at its temperature: what is learnt from must be what was sampled from.
        let sampling = Sampling {
            temperature: self.sizes.temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
        };
        let heard = |_| observer.heard();
        let model = &self.policy.model;
        let found = generate(model, &before, draws, &sampling, &limits, &Page::blank(), heard)?;
        let trajectory = |(row, completion): (usize, Completion)| {
            let place = (asked[row / samples], row / samples, row % samples);
            self.trajectory(place, given[row], completion)
        };
        found.into_iter().enumerate().map(trajectory).collect()
    }

    fn trajectory(
        &self,
        (prompt, group, sample): (usize, usize, usize),
        given: &[u32],
        completion: Completion,
    ) -> Result<Trajectory, StageError> {
        let (asked, before) = (&self.prompts.asked[prompt], self.prompts.ids(prompt));
        let said = [given, &completion.ids].concat();
        let span = |author, tokens| Span { author, tokens, turn: 0 };
        let eos = &self.policy.model.config.eos;
        Ok(Trajectory {
            prompt: asked.prompt.clone(),
            completion: self.policy.codec.continued(before, &said)?,
            tokens: Tokens {
                // A prompt may come twice in an iteration: each time it is a group of its own.
                prompt: group,
                sample,
                spans: [
                    span(Author::Prompt, before.len()),
                    span(Author::Others, given.len()),
                    span(Author::Policy, completion.ids.len()),
                ]
                .into_iter()
                .filter(|it| it.tokens > 0)
                .collect(),
                ended: completion.ids.last().is_some_and(|last| eos.contains(last)),
                ids: [before, &said].concat(),
                log_probs: completion.log_probs,
                sampling_log_probs: completion.sampling_log_probs,
            },
            rewards: BTreeMap::new(),
            reward: None,
            extra: of_prompt(asked.extra.clone()),
        })
    }

    /// log p of each token under the policy at its temperature, as the sampler found them.
    fn old(&self, it: &Trajectory) -> Vec<f64> {
        let tokens = &it.tokens;
        let cooled = (self.sizes.temperature - 1.0).abs() > f64::EPSILON;
        let found = if cooled { &tokens.sampling_log_probs } else { &tokens.log_probs };
        found.iter().map(|it| f64::from(*it)).collect()
    }

    /// One of the numbers that a model says of every token.
    fn thought(
        &self,
        model: &Model,
        rows: &[Example],
        of: fn(Table) -> Tensor,
        observer: &dyn Observer,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        batches::each(
            &lengths,
            |_, _| observer.heard(),
            |part| {
                let part: Vec<&Example> = part.iter().map(|row| &rows[*row]).collect();
                let found = of(table(model, &part, self.sizes.temperature));
                by_row(&found.to_device(Device::Cpu), &part)
            },
        )
    }

    /// The groups within which completions are compared: those of a prompt, or as many of them as the loss compares.
    fn compared(&self, by_prompt: &[Vec<usize>]) -> Vec<Vec<usize>> {
        match self.method.loss.unit() {
            1 => by_prompt.to_vec(),
            unit => by_prompt.iter().flat_map(|it| it.chunks(unit)).map(<[_]>::to_vec).collect(),
        }
    }

    /// The rows that are learnt from.
    fn kept(
        &self,
        by_prompt: &[Vec<usize>],
        rewards: &[f64],
        mut draws: Stream,
    ) -> Vec<Vec<usize>> {
        let unit = self.method.loss.unit();
        let Some(choice) = self.method.filter else {
            return by_prompt.iter().flat_map(|it| it.chunks(unit)).map(<[_]>::to_vec).collect();
        };
        let mut all = Vec::new();
        for (number, group) in by_prompt.iter().enumerate() {
            let own: Vec<f64> = group.iter().map(|at| rewards[*at]).collect();
            let kept = choice.of(&own, &mut draws.at(number).generator());
            let kept: Vec<usize> = kept.into_iter().map(|i| group[i]).collect();
            all.extend(kept.chunks(unit).map(<[_]>::to_vec));
        }
        all
    }

    /// Means over all that was sampled, before any choice.
    fn seen(&self, all: &[Trajectory], judged: &[f64]) -> Map<String, Value> {
        let mut metrics = Map::new();
        let rows = |of: &dyn Fn(&Trajectory) -> f64| mean(&all.iter().map(of).collect::<Vec<_>>());
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value.into());
        put("reward", mean(judged));
        let squares: Vec<f64> = judged.iter().map(|it| (it - mean(judged)).powi(2)).collect();
        put("reward_deviation", mean(&squares).sqrt());
        for name in self.rewards.names() {
            put(&format!("reward.{name}"), rows(&|it| it.rewards[name]));
        }
        put("tokens", rows(&|it| it.tokens.of_policy() as f64));
        put("ended", rows(&|it| f64::from(it.tokens.ended)));
        put("groups_alike", alike(all, judged));
        metrics
    }
}

/// What `of` makes of every token's two numbers.
fn both(one: &[Vec<f64>], other: &[Vec<f64>], of: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
    one.iter().zip(other).map(row).collect()
}
