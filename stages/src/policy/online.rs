//! The on-line loop: sample, judge, shape, and learn from minibatches of what was sampled. It has no branch for a method: a
//! kind names the terms of its advantages and its surrogate.
//!
//! Everything that is random in an iteration follows from its number, so a training goes on from a checkpoint to the same bytes.

use std::collections::BTreeMap;

use gradus_protocol::Page;
use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

use super::{
    advantages::{Term, advantages},
    sequences::{Table, table},
    surrogate::{Sampled, Surrogate},
};
use crate::{
    error::StageError,
    nn::{
        batch::Example,
        checkpoint::State,
        curve::Point,
        decoder::Model,
        generate::{Completion, Limits, generate},
        learner::{Learner, Observer},
        pretrained::Pretrained,
        sampling::Sampling,
        statistics::mean,
        stepper::{Loss, Stepper},
        stream::Stream,
    },
    reward::{
        expression::Expression,
        sources::{Judges, Rewards, alike},
    },
    rollout::{
        sampler::Ready,
        trajectories::{Author, Span, Tokens, Trajectory, groups, of_prompt},
    },
};

/// The policy itself: what is learnt from must be what was sampled from.
const PLAIN: Sampling =
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

/// How large an iteration is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Prompts of an iteration, and completions of each.
    pub(super) prompts: usize,
    pub(super) samples: usize,
    pub(super) max_new_tokens: usize,
    /// How often each completion is learnt from before others are sampled.
    pub(super) epochs: usize,
    /// Completions of one step of the optimiser.
    pub(super) minibatch: usize,
    /// Completions that are in memory at once.
    pub(super) micro_batch: usize,
}

impl Sizes {
    /// Steps of the optimiser in one iteration.
    pub(super) fn steps(&self) -> usize {
        self.epochs * (self.prompts * self.samples).div_ceil(self.minibatch)
    }
}

/// What makes a method.
pub(super) struct Method {
    pub(super) terms: Vec<Term>,
    pub(super) surrogate: Surrogate,
}

/// Where random choices of an iteration come from.
pub(super) struct Streams {
    pub(super) orders: Stream,
    pub(super) samples: Stream,
    pub(super) minibatches: Stream,
}

/// Who takes part, and how: what does not change while it learns, but for the policy's weights.
pub(super) struct Setting<'a> {
    pub(super) policy: &'a Pretrained,
    pub(super) reference: Option<&'a Model>,
    pub(super) prompts: &'a Ready,
    pub(super) rewards: &'a Rewards,
    pub(super) expression: &'a Expression,
    pub(super) judges: &'a Judges,
    pub(super) method: Method,
    pub(super) sizes: Sizes,
}

/// A policy that learns from what it does.
pub(super) struct OnLine<'a> {
    setting: Setting<'a>,
    stepper: Stepper,
    streams: Streams,
    /// The order of the pass over the prompts that is under way.
    order: (usize, Vec<usize>),
    /// Whether the weights have moved within an iteration.
    moved: bool,
}

/// The rollouts of an iteration.
struct Batch {
    trajectories: Vec<Trajectory>,
    rows: Vec<Example>,
    advantages: Vec<f64>,
    rewards: Vec<f64>,
}

impl<'a> OnLine<'a> {
    pub(super) fn new(setting: Setting<'a>, stepper: Stepper, streams: Streams) -> Self {
        Self { setting, stepper, streams, order: (usize::MAX, Vec::new()), moved: false }
    }

    /// The prompts of an iteration: one pass over all in random order after the other.
    fn asked(&mut self, step: usize) -> Vec<usize> {
        let (count, all) = (self.setting.sizes.prompts, self.setting.prompts.asked.len());
        let numbers: Vec<usize> = (0..all).collect();
        (step * count..(step + 1) * count)
            .map(|at| {
                let (pass, place) = (at / all, at % all);
                if self.order.0 != pass {
                    let order = self.streams.orders.at(pass);
                    self.order =
                        (pass, order.order(&numbers, |it| self.setting.prompts.asked[it].number));
                }
                self.order.1[place]
            })
            .collect()
    }

    /// Samples, judges and shapes.
    fn rollouts(&mut self, step: usize, observer: &mut dyn Observer) -> Result<Batch, StageError> {
        let (asked, samples) = (self.asked(step), self.setting.sizes.samples);
        let prompts: Vec<&[u32]> = asked
            .iter()
            .flat_map(|at| std::iter::repeat_n(self.setting.prompts.ids(*at), samples))
            .collect();
        let draws = self.streams.samples.at(step).rows(prompts.len()).collect();
        let eos = self.setting.policy.model.config.eos.as_slice();
        let max_new_tokens = self.setting.sizes.max_new_tokens;
        let limits = Limits { max_new_tokens, eos, rows: prompts.len() };
        let heard = |_| observer.heard();
        let model = &self.setting.policy.model;
        let found = generate(model, &prompts, draws, &PLAIN, &limits, &Page::blank(), heard)?;
        let mut trajectories = Vec::new();
        for (row, completion) in found.into_iter().enumerate() {
            let place = (asked[row / samples], row / samples, row % samples);
            trajectories.push(self.setting.trajectory(place, prompts[row], completion)?);
        }
        let mut heard = |_, _| observer.heard();
        let rewards = self.setting.rewards.judge(
            self.setting.expression,
            &mut trajectories,
            self.setting.judges,
            &mut heard,
        )?;
        let groups = groups(&trajectories);
        let advantages = advantages(&self.setting.method.terms, &rewards, &groups);
        let row = |it: &Trajectory| {
            let ids = it.tokens.ids.clone();
            let own = ids.len() - it.tokens.of_policy();
            Example::after_prompt(ids, own)
        };
        let rows = trajectories.iter().map(row).collect();
        Ok(Batch { trajectories, rows, advantages, rewards })
    }
}

impl Setting<'_> {
    fn trajectory(
        &self,
        (prompt, group, sample): (usize, usize, usize),
        before: &[u32],
        completion: Completion,
    ) -> Result<Trajectory, StageError> {
        let asked = &self.prompts.asked[prompt];
        let span = |author, tokens| Span { author, tokens, turn: 0 };
        let eos = &self.policy.model.config.eos;
        Ok(Trajectory {
            prompt: asked.prompt.clone(),
            completion: self.policy.codec.continued(before, &completion.ids)?,
            tokens: Tokens {
                // A prompt may come twice in an iteration: each time it is a group of its own.
                prompt: group,
                sample,
                spans: vec![
                    span(Author::Prompt, before.len()),
                    span(Author::Policy, completion.ids.len()),
                ],
                ended: completion.ids.last().is_some_and(|last| eos.contains(last)),
                ids: [before, &completion.ids].concat(),
                log_probs: completion.log_probs,
                sampling_log_probs: completion.sampling_log_probs,
            },
            rewards: BTreeMap::new(),
            reward: None,
            extra: of_prompt(asked.extra.clone()),
        })
    }

    /// The loss of some rows of `batch`, of a step over `all` of them.
    fn loss(&self, batch: &Batch, part: &[usize], all: &[usize]) -> Loss {
        let device = self.policy.model.device();
        let rows: Vec<&Example> = part.iter().map(|at| &batch.rows[*at]).collect();
        let reference = self.reference.map(|model| tch::no_grad(|| table(model, &rows).log_probs));
        let Table { log_probs, entropy, mask, tail } = table(&self.policy.model, &rows);
        let old = padded(part.iter().map(|at| &batch.trajectories[*at].tokens.log_probs), &mask);
        #[expect(clippy::cast_possible_truncation, reason = "losses are float32")]
        let column = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|it| it as f32).collect();
            Tensor::from_slice(&values).view([-1, 1]).to_device(device)
        };
        let advantages = column(part.iter().map(|at| batch.advantages[*at]).collect());
        let sampled = Sampled {
            old: &old,
            reference: reference.as_ref(),
            advantages: &advantages,
            mask: &mask,
        };
        let (losses, shown) = self.method.surrogate.losses(&log_probs, &sampled);
        let length = |at: &usize| batch.rows[*at].labels() as f64;
        let tokens: f64 = all.iter().map(length).sum();
        let longest = self.sizes.max_new_tokens as f64;
        let weight = |at: &usize| {
            self.method.surrogate.weight(length(at), all.len() as f64, tokens, longest)
        };
        let weights = column(part.iter().map(weight).collect());
        let sum = |x: &Tensor| x.sum(Kind::Float);
        let gap = sum(&((&log_probs - &old).abs() * &mask).detach());
        let mut metrics = vec![
            ("entropy", sum(&(entropy * &mask)) / tokens),
            ("clipped_low", shown.clipped_low / tokens),
            ("clipped_high", shown.clipped_high / tokens),
            ("sampler_gap", gap / tokens),
        ];
        metrics.extend(shown.kl.map(|kl| ("kl", kl / tokens)));
        Loss { sum: sum(&(losses * weights)), metrics, tail }
    }

    /// What an iteration came to: means over its steps, and over its rollouts.
    fn point(&self, step: usize, points: &[Point], batch: &Batch) -> Point {
        let over = |of: &dyn Fn(&Point) -> f64| {
            points.iter().map(of).sum::<f64>() / points.len().max(1) as f64
        };
        let mut metrics = serde_json::Map::new();
        let all = &batch.trajectories;
        let rows = |of: &dyn Fn(&Trajectory) -> f64| mean(&all.iter().map(of).collect::<Vec<_>>());
        metrics.insert("reward".to_owned(), mean(&batch.rewards).into());
        for name in self.rewards.names() {
            metrics.insert(format!("reward.{name}"), rows(&|it| it.rewards[name]).into());
        }
        metrics.insert("tokens".to_owned(), rows(&|it| it.tokens.of_policy() as f64).into());
        metrics.insert("ended".to_owned(), rows(&|it| f64::from(it.tokens.ended)).into());
        metrics.insert("groups_alike".to_owned(), alike(all, &batch.rewards).into());
        // What sampled and what learns differ by rounding alone, until the first step.
        let first = points.first().and_then(|it| it.metrics.get("sampler_gap")).cloned();
        let names = points.first().map(|point| point.metrics.keys().cloned().collect::<Vec<_>>());
        for name in names.unwrap_or_default() {
            let value = |point: &Point| point.metrics[&name].as_f64().unwrap_or(f64::NAN);
            metrics.insert(name.clone(), over(&value).into());
        }
        metrics.extend(first.map(|gap| ("sampler_gap".to_owned(), gap)));
        Point {
            step: step + 1,
            loss: over(&|it| it.loss),
            grad_norm: over(&|it| it.grad_norm),
            learning_rate: points.last().map_or(0.0, |it| it.learning_rate),
            metrics,
        }
    }
}

/// Numbers of each row as a table like `mask`.
fn padded<'r>(rows: impl Iterator<Item = &'r Vec<f32>>, mask: &Tensor) -> Tensor {
    let width = usize::try_from(mask.size()[1]).unwrap_or(0);
    let mut all = Vec::new();
    for row in rows {
        all.extend(row.iter().copied().chain(std::iter::repeat(0.0)).take(width));
    }
    Tensor::from_slice(&all).view_as(mask).to_device(mask.device())
}

impl Learner for OnLine<'_> {
    fn iterate(&mut self, step: usize, observer: &mut dyn Observer) -> Result<Point, StageError> {
        let batch = self.rollouts(step, observer)?;
        let Sizes { epochs, minibatch, micro_batch, .. } = self.setting.sizes;
        let mut points = Vec::new();
        for epoch in 0..epochs {
            let mut order: Vec<usize> = (0..batch.rows.len()).collect();
            let stream = self.streams.minibatches.at(step * epochs + epoch);
            order.shuffle(&mut stream.generator());
            for rows in order.chunks(minibatch) {
                let parts: Vec<&[usize]> = rows.chunks(micro_batch).collect();
                self.moved |= !points.is_empty();
                let setting = &self.setting;
                let taken = self.stepper.step(&setting.policy.model, parts.len(), 1.0, |part| {
                    observer.heard()?;
                    Ok(setting.loss(&batch, parts[part], rows))
                });
                points.push(taken?);
            }
        }
        self.moved = false;
        Ok(self.setting.point(step, &points, &batch))
    }

    fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.setting.policy.model.parameters
    }

    fn stepper(&self) -> &Stepper {
        &self.stepper
    }

    fn resume(&mut self, state: State) -> Vec<Point> {
        let iterations = state.step;
        let curve = self.stepper.resume(state);
        self.stepper.stand_at(iterations * self.setting.sizes.steps());
        curve
    }

    /// Several steps of the optimiser are one iteration: between them there is no going back.
    fn is_whole(&self) -> bool {
        !self.moved
    }

    fn reached(&self, step: usize) -> BTreeMap<String, f64> {
        [("iterations".to_owned(), step as f64)].into()
    }

    fn said(&self, point: &Point) -> String {
        let metric = |name: &str| point.metrics.get(name).and_then(serde_json::Value::as_f64);
        let reward = metric("reward").unwrap_or(f64::NAN);
        let kl = metric("kl").map_or(String::new(), |kl| format!(", kl {kl:.4}"));
        format!("reward {reward:.4}{kl}")
    }
}
