//! The on-line loop: sample, judge, shape, choose, and learn from minibatches of what was sampled. It has no branch for a
//! method: a kind names how rewards are shaped and credited, what is learnt from, and by which losses.
//!
//! Everything that is random in an iteration follows from its number, so a training goes on from a checkpoint to the same bytes.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::{
    critic::{clipped, value_losses, values},
    method::{Setting, Sizes},
    rollouts::{Draws, Rollouts},
    sequences::{Table, table, table_with_entropy},
    shaping::Shaper,
    surrogate::{Extent, Sampled},
};
use crate::{
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        checkpoint::{Part, State},
        curve::Point,
        learner::{Learner, Observer},
        likelihood::Likelihood,
        stepper::{Loss, Stepper},
        stream::Stream,
        trainer::Objective,
    },
    rollout::trajectories::Trajectory,
};

/// Texts that are to stay likely.
pub(super) struct Kept {
    pub(super) texts: Likelihood,
    pub(super) weight: f64,
    pub(super) orders: Stream,
}

/// Where random choices come from.
pub(super) struct Streams {
    pub(super) orders: Stream,
    pub(super) samples: Stream,
    pub(super) rivals: Stream,
    pub(super) resets: Stream,
    pub(super) rewards: Stream,
    pub(super) filter: Stream,
    pub(super) minibatches: Stream,
    pub(super) test: Stream,
}

impl Streams {
    pub(super) fn of(context: &mut Context) -> Self {
        Self {
            orders: context.stream("order"),
            samples: context.stream("samples"),
            rivals: context.stream("rivals"),
            resets: context.stream("resets"),
            rewards: context.stream("rewards"),
            filter: context.stream("filter"),
            minibatches: context.stream("minibatches"),
            test: context.stream("test"),
        }
    }
}

/// A policy that learns from what it does.
pub(super) struct OnLine<'a> {
    setting: Setting<'a>,
    stepper: Stepper,
    streams: Streams,
    shaper: Shaper,
    prompts: Passes,
    kept: Option<(Kept, Passes)>,
    average: Option<BTreeMap<String, Tensor>>,
    /// Completions that are kept to be read.
    samples: Vec<Trajectory>,
    /// Whether weights or what was learnt of rewards have changed within an iteration.
    moved: bool,
}

/// What a checkpoint holds beside weights and optimisers.
#[derive(Serialize, Deserialize)]
struct Notes {
    shaper: Shaper,
    samples: Vec<Trajectory>,
}

/// One pass over rows in random order after the other.
struct Passes {
    rows: usize,
    order: (usize, Vec<usize>),
}

impl Passes {
    fn over(rows: usize) -> Self {
        Self { rows, order: (usize::MAX, Vec::new()) }
    }

    /// Rows `from` up to `to` of all passes together.
    fn between(
        &mut self,
        from: usize,
        to: usize,
        orders: &mut Stream,
        number: impl Fn(usize) -> usize,
    ) -> Vec<usize> {
        let all: Vec<usize> = (0..self.rows).collect();
        (from..to)
            .map(|at| {
                let (pass, place) = (at / self.rows, at % self.rows);
                if self.order.0 != pass {
                    self.order = (pass, orders.at(pass).order(&all, &number));
                }
                self.order.1[place]
            })
            .collect()
    }
}

impl<'a> OnLine<'a> {
    pub(super) fn new(
        setting: Setting<'a>,
        stepper: Stepper,
        streams: Streams,
        kept: Option<Kept>,
    ) -> Self {
        let copy = |(name, value): (&String, &Tensor)| (name.clone(), value.detach().copy());
        let parameters = &setting.policy.model.parameters;
        Self {
            shaper: Shaper::new(&setting.method.shaping),
            prompts: Passes::over(setting.prompts.asked.len()),
            kept: kept.map(|kept| {
                let rows = Passes::over(kept.texts.rows());
                (kept, rows)
            }),
            average: setting.method.average.map(|_| parameters.iter().map(copy).collect()),
            setting,
            stepper,
            streams,
            samples: Vec::new(),
            moved: false,
        }
    }

    /// What is to be read of it, with the column `iteration`.
    pub(super) fn samples(&self) -> &[Trajectory] {
        &self.samples
    }

    /// Puts the averaged weights into the policy, where there are such.
    pub(super) fn settle(self) {
        let _no_grad = tch::no_grad_guard();
        for (name, value) in self.average.iter().flatten() {
            self.setting.policy.model.parameters[name].shallow_clone().copy_(value);
        }
    }

    /// Takes the steps of iteration `step`; every part of one is heard about.
    fn learn(
        &mut self,
        step: usize,
        batch: &Rollouts,
        observer: &dyn Observer,
    ) -> Result<Vec<Point>, StageError> {
        let Sizes { epochs, minibatch, micro_batch, .. } = self.setting.sizes;
        let unit = self.setting.method.loss.unit();
        let critic_alone = step < self.setting.method.critic_first;
        let mut points: Vec<Point> = Vec::new();
        for epoch in 0..epochs {
            let mut order = batch.kept.clone();
            let stream = self.streams.minibatches.at(step * epochs + epoch);
            order.shuffle(&mut stream.generator());
            for (place, units) in order.chunks((minibatch / unit).max(1)).enumerate() {
                let rows = units.concat();
                let mut parts: Vec<Work> = rows.chunks(micro_batch).map(Work::Rollouts).collect();
                let mut texts = Vec::new();
                if let Some((kept, passes)) = self.kept.as_mut().filter(|_| !critic_alone) {
                    // As many texts as completions, in every epoch the next ones.
                    let before = (step * epochs + epoch) * self.setting.most() + place * minibatch;
                    let number = |row| kept.texts.number(row);
                    texts = passes.between(before, before + rows.len(), &mut kept.orders, number);
                }
                if let Some((kept, _)) = &self.kept {
                    let weight: f64 = texts.iter().map(|row| kept.texts.weight(*row)).sum();
                    parts.extend(texts.chunks(micro_batch).map(|it| Work::Texts(kept, it, weight)));
                }
                self.moved = true;
                let setting = &self.setting;
                let policy = (!critic_alone).then_some(&setting.policy.model);
                let models = [policy, setting.critic.map(|it| &it.model)];
                let models = &models[..if setting.critic.is_some() { 2 } else { 1 }];
                let taken = self.stepper.step_together(models, parts.len(), 1.0, |part| {
                    observer.heard()?;
                    match &parts[part] {
                        Work::Rollouts(part) => Ok(setting.loss(batch, part, &rows, !critic_alone)),
                        Work::Texts(kept, texts, weight) => {
                            let loss = kept.texts.loss(&setting.policy.model, texts, texts)?;
                            let mean = loss.sum / *weight;
                            let metrics = vec![("text_loss", mean.detach())];
                            Ok(Loss { sum: mean * kept.weight, metrics, tail: loss.tail })
                        }
                    }
                });
                points.push(taken?);
                self.follow(critic_alone);
                if self.is_far(&points) {
                    return Ok(points);
                }
            }
        }
        Ok(points)
    }

    /// Lets the average follow the policy.
    fn follow(&mut self, critic_alone: bool) {
        let _no_grad = tch::no_grad_guard();
        let (Some(average), Some(stays), false) =
            (&mut self.average, self.setting.method.average, critic_alone)
        else {
            return;
        };
        for (name, value) in average {
            let _ = value.lerp_(&self.setting.policy.model.parameters[name], 1.0 - stays);
        }
    }

    fn is_far(&self, points: &[Point]) -> bool {
        let moved = points.last().and_then(|it| it.metrics.get("step_kl")?.as_f64());
        let most = self.setting.method.most_step_kl;
        most.zip(moved).is_some_and(|(most, moved)| moved > most)
    }
}

/// What one part of a step is about.
enum Work<'s> {
    /// Completions, by their rows.
    Rollouts(&'s [usize]),
    /// Some texts that are to stay likely, and the tokens of all of the step's.
    Texts(&'s Kept, &'s [usize], f64),
}

impl Setting<'_> {
    /// The loss of some rows of `batch`, of a step over `all` of them.
    fn loss(&self, batch: &Rollouts, part: &[usize], all: &[usize], with_policy: bool) -> Loss {
        let rows: Vec<&Example> = part.iter().map(|at| &batch.rows[*at]).collect();
        let length = |at: &usize| batch.rows[*at].labels() as f64;
        let step = Extent {
            lengths: part.iter().map(length).collect(),
            rows: all.len() as f64,
            tokens: all.iter().map(length).sum::<f64>().max(1.0),
            longest: (self.sizes.max_new_tokens * self.sizes.turns) as f64,
        };
        let mut whole = Loss { sum: Tensor::from(0_f32), metrics: Vec::new(), tail: None };
        let device = self.policy.model.device();
        whole.sum = whole.sum.to_device(device);
        if with_policy {
            let worth = self.method.entropy_weight;
            let thought = if worth == 0.0 { table } else { table_with_entropy };
            let Table { log_probs, entropy, mask, tail } =
                thought(&self.policy.model, &rows, self.sizes.temperature);
            let old = padded(&batch.old, part, &mask);
            let reference = batch.reference.as_ref().map(|all| padded(all, part, &mask));
            let advantages = padded(&batch.credited.advantages, part, &mask);
            let (old, reference) = (&old, reference.as_ref());
            let sampled = Sampled { old, reference, advantages: &advantages, mask: &mask };
            let cost = self.method.loss.loss(&log_probs, &sampled, &step);
            let sum = |x: &Tensor| x.sum(Kind::Float) / step.tokens;
            let entropy = sum(&(entropy * &mask));
            whole.metrics.push(("policy_loss", cost.sum.detach()));
            whole.metrics.push(("entropy", entropy.detach()));
            let gap = (log_probs.detach() - old).abs() * &mask;
            whole.metrics.push(("sampler_gap", sum(&gap)));
            whole.metrics.extend(cost.metrics);
            whole.sum += cost.sum;
            if worth != 0.0 {
                whole.sum -= entropy * worth;
            }
            whole.tail = tail;
        }
        if let (Some(critic), Some(value)) = (self.critic, self.method.value) {
            let found = values(&critic.model, &rows);
            let mask = mask(&rows, &found);
            let [old, returns] = [batch.values.as_ref(), Some(&batch.credited.returns)]
                .map(|all| padded(all.map_or(&[], Vec::as_slice), part, &mask));
            let losses = value_losses(&found, &old, &returns, value.clip) * &mask;
            let loss = losses.sum(Kind::Float) / step.tokens;
            let far = clipped(&found, &old, value.clip, &mask) / step.tokens;
            whole.metrics.push(("value_loss", loss.detach()));
            whole.metrics.push(("value_clipped", far));
            whole.sum += loss * value.weight;
        }
        whole
    }
}

/// What an iteration came to: means over its steps, and over its rollouts.
fn point(step: usize, points: &[Point], mut batch: Rollouts) -> Point {
    let over = |of: &dyn Fn(&Point) -> f64| {
        points.iter().map(of).sum::<f64>() / points.len().max(1) as f64
    };
    let mut metrics = std::mem::take(&mut batch.metrics);
    // What sampled and what learns differ by rounding alone, until the first step.
    let first = points.first().and_then(|it| it.metrics.get("sampler_gap")).cloned();
    let names = points.first().map(|point| point.metrics.keys().cloned().collect::<Vec<_>>());
    for name in names.unwrap_or_default() {
        let value =
            |point: &Point| point.metrics.get(&name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        metrics.insert(name.clone(), over(&value).into());
    }
    metrics.extend(first.map(|gap| ("sampler_gap".to_owned(), gap)));
    metrics.insert("steps".to_owned(), points.len().into());
    Point {
        step: step + 1,
        loss: over(&|it| it.loss),
        grad_norm: over(&|it| it.grad_norm),
        learning_rate: points.last().map_or(0.0, |it| it.learning_rate),
        metrics,
    }
}

/// 1 where a row has a token that is learnt, as wide as `like`.
fn mask(rows: &[&Example], like: &Tensor) -> Tensor {
    let ones: Vec<Vec<f64>> = rows.iter().map(|row| vec![1.0; row.labels()]).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    padded(&ones, &all, like)
}

/// Numbers of some rows as a table as wide as `like`.
#[expect(clippy::cast_possible_truncation, reason = "losses are float32")]
fn padded(all: &[Vec<f64>], part: &[usize], like: &Tensor) -> Tensor {
    let width = usize::try_from(like.size()[1]).unwrap_or(0);
    let mut numbers: Vec<f32> = Vec::with_capacity(part.len() * width);
    for at in part {
        let row = all[*at].iter().map(|it| *it as f32);
        numbers.extend(row.chain(std::iter::repeat(0.0)).take(width));
    }
    Tensor::from_slice(&numbers).view_as(like).to_device(like.device())
}

impl Learner for OnLine<'_> {
    fn iterate(&mut self, step: usize, observer: &mut dyn Observer) -> Result<Point, StageError> {
        let count = self.setting.sizes.prompts;
        let numbers = &self.setting.prompts.asked;
        let asked = self.prompts.between(
            step * count,
            (step + 1) * count,
            &mut self.streams.orders,
            |it| numbers[it].number,
        );
        let draws = Draws {
            iteration: step,
            rewards: self.streams.rewards.at(step),
            samples: self.streams.samples.at(step),
            rivals: self.streams.rivals.at(step),
            resets: self.streams.resets.at(step),
            filter: self.streams.filter.at(step),
        };
        // What shaping learns is kept once the iteration is whole.
        let mut shaper = self.shaper;
        let shown = self.setting.reading.of(step);
        let mut batch = self.setting.rollouts(
            &asked,
            draws,
            shown,
            &mut shaper,
            self.average.as_ref(),
            observer,
        )?;
        let mut samples = std::mem::take(&mut batch.samples);
        for sample in &mut samples {
            // A group of its own, whatever the iteration.
            sample.tokens.prompt += step * count;
            sample.extra.insert("iteration".to_owned(), (step + 1).into());
        }
        shaper.follow(&self.setting.method.shaping, batch.kl, batch.rows.len());
        let points = self.learn(step, &batch, observer)?;
        self.shaper = shaper;
        self.samples.extend(samples);
        self.moved = false;
        Ok(point(step, &points, batch))
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let names = ["policy", "critic"];
        let models = [Some(self.setting.policy), self.setting.critic];
        let parts = names.into_iter().zip(models.into_iter().flatten());
        let parts = parts.zip(self.stepper.optimizers()).map(|((name, it), optimizer)| Part {
            name,
            parameters: &it.model.parameters,
            optimizer: Some(optimizer),
        });
        let average = self.average.as_ref().map(|it| Part {
            name: "average",
            parameters: it,
            optimizer: None,
        });
        parts.chain(average).collect()
    }

    fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.setting.policy.model.parameters
    }

    fn measure(
        &mut self,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<Map<String, Value>, StageError> {
        let Some(test) = self.setting.test else { return Ok(Map::new()) };
        self.setting.measured(test, self.streams.test.at(step), self.average.as_ref(), observer)
    }

    fn notes(&self) -> Value {
        json!(Notes { shaper: self.shaper, samples: self.samples.clone() })
    }

    fn resume(&mut self, state: State) -> Result<Vec<Point>, StageError> {
        let notes: Notes = serde_json::from_value(state.notes)
            .map_err(|error| StageError::refused(format!("the checkpoint: {error}")))?;
        (self.shaper, self.samples) = (notes.shaper, notes.samples);
        self.stepper.resume(state.optimizers);
        Ok(state.curve)
    }

    /// Several steps of the optimiser are one iteration: between them there is no going back.
    fn is_whole(&self) -> bool {
        !self.moved
    }

    fn reached(&self, step: usize) -> BTreeMap<String, f64> {
        [("iterations".to_owned(), step as f64)].into()
    }

    fn said(&self, point: &Point) -> String {
        let metric = |name: &str| point.metrics.get(name).and_then(Value::as_f64);
        let reward = metric("reward").unwrap_or(f64::NAN);
        let kl = metric("kl_completion").map_or(String::new(), |kl| format!(", kl {kl:.3}"));
        format!("reward {reward:.4}{kl}")
    }
}
