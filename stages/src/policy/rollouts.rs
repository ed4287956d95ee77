//! The first half of an iteration: the policy answers, is judged, and every token of what it said gets its numbers. What
//! comes of it is a table with a row for each completion, and which of them are learnt from.

use std::{cell::RefCell, collections::BTreeMap};

use gradus_protocol::Page;
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::{
    conditional::Metric,
    credit::{Basis, Credited, whiten},
    critic::all_values,
    method::{Setting, Sizes},
    sequences::{Table, by_row, table},
    shaping::{Early, Shaper},
};
use crate::{
    error::StageError,
    nn::{
        batch::Example, batches, decoder::Model, learner::Observer, pretrained::Pretrained,
        sampling::Sampling, statistics::mean, stream::Stream,
    },
    reward::sources::alike,
    rollout::{
        conversation::{Begun, Said, Speaker},
        sampler::Ready,
        trajectories::{Trajectory, groups},
    },
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

/// An iteration, and where its random choices come from.
pub(super) struct Draws {
    /// Which one it is, from 0.
    pub(super) iteration: usize,
    pub(super) rewards: Stream,
    pub(super) samples: Stream,
    pub(super) rivals: Stream,
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
        average: Option<&BTreeMap<String, Tensor>>,
        observer: &dyn Observer,
    ) -> Result<Rollouts, StageError> {
        let mut trajectories = self.sampled(asked, draws.samples, draws.resets, observer)?;
        let (ready, samples) = (self.prompts, self.sizes.samples);
        let rivals = self.rivals(ready, asked, samples, draws.rivals, average, observer)?;
        let mut heard = |_, _| observer.heard();
        let judged = self.rewards.judge(
            self.expression,
            &mut trajectories,
            (self.judges, rivals.as_deref()),
            draws.rewards,
            &mut heard,
        )?;
        let earlier: Vec<Vec<Early>> =
            trajectories.iter().map(|it| self.earlier(it)).collect::<Result<_, _>>()?;
        let row = |it: &Trajectory| Example::of_parts(it.tokens.ids.clone(), it.tokens.own());
        let rows: Vec<Example> = trajectories.iter().map(row).collect();
        let log_probs = |table: Table| table.log_probs;
        let old = self.old(&trajectories, &rows, observer)?;
        let reference =
            self.reference.map(|it| self.thought(&it.model, &rows, log_probs, observer));
        let reference = reference.transpose()?;
        let values = self.critic.map(|it| all_values(&it.model, &rows, || observer.heard()));
        let values = values.transpose()?;

        let shaping = &self.method.shaping;
        let worth = shaper.scaled(shaping, &judged);
        let divergences = match &reference {
            Some(reference) => both(&old, reference, |p, q| shaping.estimator.of(p, q)),
            None => old.iter().map(|own| vec![0.0; own.len()]).collect(),
        };
        let token_rewards = shaper.by_token(shaping, &worth, &earlier, &divergences);
        let by_prompt = groups(&trajectories);
        let compared = self.compared(&by_prompt);
        let metric = self.method.credit.metric();
        let entropies = if self.method.modulation.is_some() || metric == Some(&Metric::Entropy) {
            self.thought(&self.policy.model, &rows, |table| table.entropy, observer)?
        } else {
            Vec::new()
        };
        let metric = match metric {
            None => Vec::new(),
            Some(Metric::Tokens) => old.iter().map(|own| own.len() as f64).collect(),
            Some(Metric::Entropy) => entropies.iter().map(|own| mean(own)).collect(),
            Some(Metric::Order) => (0..rows.len()).map(|at| at as f64).collect(),
            Some(Metric::Reward(name)) => trajectories.iter().map(|it| it.rewards[name]).collect(),
        };
        let basis = Basis {
            values: values.as_deref(),
            groups: &compared,
            metric: &metric,
            iteration: draws.iteration,
        };
        let mut credited = self.method.credit.of(&token_rewards, &basis);
        let kept = self.kept(&by_prompt, &judged, draws.filter);
        if let Some(modulation) = self.method.modulation {
            let turns: Vec<Vec<usize>> =
                trajectories.iter().map(|it| it.tokens.by_turn()).collect();
            modulation.apply(&mut credited.advantages, &entropies, &turns, &kept.concat());
        }
        if self.method.whiten {
            whiten(&mut credited.advantages, &kept.concat());
        }
        if let Some(most) = self.method.advantage_clip {
            credited.advantages.iter_mut().flatten().for_each(|it| *it = it.clamp(-most, most));
        }

        let mut metrics = self.seen(&trajectories, &judged);
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value.into());
        put("perplexity", (-mean(&self.own(&old).concat())).exp());
        let mut kl = 0.0;
        if let Some(reference) = &reference {
            let gaps = self.own(&both(&old, reference, |p, q| p - q));
            kl = gaps.iter().flatten().sum::<f64>() / gaps.len().max(1) as f64;
            put("kl_completion", kl);
            put("reference_perplexity", (-mean(&self.own(reference).concat())).exp());
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
        let each: Vec<usize> =
            asked.iter().flat_map(|at| std::iter::repeat_n(*at, samples)).collect();
        let rows = each.len();
        let begin = |((at, draws), resets): ((&usize, Stream), Stream)| Begun {
            asked: &self.prompts.asked[*at],
            prompt: self.prompts.ids(*at),
            given: match self.resets {
                Some(it) => it.begin(*at, max_new_tokens, &mut resets.generator()),
                None => &[],
            },
            draws,
        };
        let all = each.iter().zip(draws.rows(rows)).zip(resets.rows(rows)).map(begin);
        let (own, others): (Vec<_>, Vec<_>) = all.enumerate().partition(|(at, _)| self.is_own(*at));
        let unnumbered = |part: Vec<(usize, _)>| part.into_iter().map(|(_, it)| it).collect();
        let mut said = self.said(self.policy, unnumbered(own), observer)?.into_iter();
        let mut others = match self.reference {
            Some(reference) if !others.is_empty() => {
                self.said(reference, unnumbered(others), observer)?.into_iter()
            }
            _ => Vec::new().into_iter(),
        };
        let next = |at| if self.is_own(at) { said.next() } else { others.next() };
        let found: Vec<Said> = (0..rows).filter_map(next).collect();
        // A prompt may come twice in an iteration: each time it is a group of its own.
        let place = |(row, said): (usize, Said)| {
            said.trajectory(&self.prompts.asked[each[row]], row / samples, row % samples)
        };
        Ok(found.into_iter().enumerate().map(place).collect())
    }

    /// What a model says, and where there is a world what they say to each other.
    fn said(
        &self,
        policy: &Pretrained,
        begun: Vec<Begun<'_>>,
        observer: &dyn Observer,
    ) -> Result<Vec<Said>, StageError> {
        let Sizes { prompts, samples, max_new_tokens, temperature, .. } = self.sizes;
        // The policy itself, at its temperature: what is learnt from must be what was sampled from.
        let sampling =
            Sampling { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };
        let (page, rows) = (&Page::blank(), prompts * samples);
        let speaker = Speaker {
            policy,
            sampling: &sampling,
            beams: 1,
            steering: None,
            max_new_tokens,
            rows,
            page,
        };
        let mut world = self.world.as_ref().map(RefCell::borrow_mut);
        speaker.converse(begun, world.as_deref_mut(), &mut |_| observer.heard())
    }

    /// What its completions of prompts that it does not learn from are worth.
    pub(super) fn measured(
        &self,
        test: &Ready,
        mut draws: Stream,
        average: Option<&BTreeMap<String, Tensor>>,
        observer: &dyn Observer,
    ) -> Result<Map<String, Value>, StageError> {
        let streams = draws.named("samples").rows(test.asked.len());
        let begin = |((at, asked), draws)| Begun { asked, prompt: test.ids(at), given: &[], draws };
        let all = test.asked.iter().enumerate().zip(streams).map(begin).collect();
        let found = self.said(self.policy, all, observer)?;
        let row = |(at, said): (usize, Said)| said.trajectory(&test.asked[at], at, 0);
        let mut all: Vec<Trajectory> = found.into_iter().enumerate().map(row).collect();
        let each: Vec<usize> = (0..all.len()).collect();
        let rivals = self.rivals(test, &each, 1, draws.named("rivals"), average, observer)?;
        let (rewards, who) = (draws.named("rewards"), (self.judges, rivals.as_deref()));
        let mut heard = |_, _| observer.heard();
        let judged = self.rewards.judge(self.expression, &mut all, who, rewards, &mut heard)?;
        let mut found = Map::new();
        found.insert("test_reward".to_owned(), mean(&judged).into());
        let mut put = |name: String, of: &dyn Fn(&Trajectory) -> f64| {
            found.insert(name, mean(&all.iter().map(of).collect::<Vec<_>>()).into());
        };
        for name in self.rewards.names() {
            put(format!("test_reward.{name}"), &|it| it.rewards[name]);
        }
        put("test_tokens".to_owned(), &|it| it.tokens.of_policy() as f64);
        Ok(found)
    }

    /// What of a conversation's reward it had before its last turn.
    fn earlier(&self, it: &Trajectory) -> Result<Vec<Early>, StageError> {
        let rewards = self.rewards.earlier(self.expression, it)?;
        let early = |(tokens, reward)| Early { tokens, reward };
        Ok(it.tokens.by_turn().into_iter().zip(rewards).map(early).collect())
    }

    /// log p of each token under the policy at its temperature: as the sampler found them, and of what the reference said as the
    /// policy thinks of it.
    fn old(
        &self,
        all: &[Trajectory],
        rows: &[Example],
        observer: &dyn Observer,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        let cooled = (self.sizes.temperature - 1.0).abs() > f64::EPSILON;
        let found = |it: &Trajectory| {
            let tokens = &it.tokens;
            let found = if cooled { &tokens.sampling_log_probs } else { &tokens.log_probs };
            found.iter().map(|it| f64::from(*it)).collect()
        };
        let mut old: Vec<Vec<f64>> = all.iter().map(found).collect();
        let others: Vec<usize> = (0..all.len()).filter(|at| !self.is_own(*at)).collect();
        let theirs: Vec<Example> = others.iter().map(|at| rows[*at].clone()).collect();
        let thought = self.thought(&self.policy.model, &theirs, |it| it.log_probs, observer)?;
        for (at, log_probs) in others.into_iter().zip(thought) {
            old[at] = log_probs;
        }
        Ok(old)
    }

    /// Those of the policy's own completions.
    fn own<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let own = all.iter().enumerate().filter(|(at, _)| self.is_own(*at));
        own.map(|(_, it)| it.clone()).collect()
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

    /// Means over all that the policy said, before any choice.
    fn seen(&self, all: &[Trajectory], judged: &[f64]) -> Map<String, Value> {
        let mut metrics = Map::new();
        let groups_alike = alike(all, judged);
        let own = |at: &usize| self.is_own(*at);
        let all: Vec<&Trajectory> = (0..all.len()).filter(own).map(|at| &all[at]).collect();
        let judged = &self.own(judged);
        let rows = |of: &dyn Fn(&Trajectory) -> f64| {
            mean(&all.iter().map(|it| of(it)).collect::<Vec<_>>())
        };
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value.into());
        put("reward", mean(judged));
        let squares: Vec<f64> = judged.iter().map(|it| (it - mean(judged)).powi(2)).collect();
        put("reward_deviation", mean(&squares).sqrt());
        for name in self.rewards.names() {
            put(&format!("reward.{name}"), rows(&|it| it.rewards[name]));
        }
        put("tokens", rows(&|it| it.tokens.of_policy() as f64));
        put("ended", rows(&|it| f64::from(it.tokens.ended)));
        if self.world.is_some() {
            put("turns", rows(&|it| it.turns.len() as f64));
        }
        put("groups_alike", groups_alike);
        metrics
    }
}

/// What `of` makes of every token's two numbers.
fn both(one: &[Vec<f64>], other: &[Vec<f64>], of: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
    one.iter().zip(other).map(row).collect()
}
