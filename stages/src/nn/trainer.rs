//! The training loop that all fine-tuning shares: shuffle, split into micro-batches, step.
//!
//! A step's loss is a sum over its rows divided by the weight of the whole step (labels, or pairs), so
//! one batch of eight rows and eight batches of one row take the same step.

use std::{collections::BTreeMap, time::Instant};

use gradus_protocol::catalog::{Length, Rule};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::{
    adamw::AdamSettings,
    checkpoint::{Part, State},
    curve::Point,
    decoder::Model,
    learner::{Learner, Learnt, Observer, learn},
    schedule::{Decay, Schedule},
    stepper::{Loss, Stepper},
    stream::Stream,
    watch::Watch,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Of one training; a billion take months on anything.
const MOST_STEPS: usize = 1_000_000_000;

/// How a model is trained. Kinds flatten this into their own parameters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct Training {
    /// The largest step size of the optimiser, Adam with decoupled decay. More learns faster, until it diverges.
    #[schemars(range(min = 0.0))]
    pub(crate) learning_rate: f64,
    /// Passes over the rows; a fraction stops within a pass, at the next whole step. `steps` has precedence.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub(crate) epochs: f64,
    /// Steps of the optimiser, in place of `epochs`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub(crate) steps: Option<usize>,
    /// Rows (or pairs) in one step. More makes steps steadier and fewer.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1))]
    pub(crate) batch: usize,
    /// Rows (or pairs) that are in memory at once; the default is the whole batch. Results do not
    /// depend on it beyond rounding.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) micro_batch: Option<usize>,
    /// How the step size falls after the warm-up.
    #[serde(default = "default_decay")]
    pub(crate) schedule: Decay,
    /// Steps over which the step size climbs to `learning_rate`.
    #[serde(default)]
    pub(crate) warmup_steps: usize,
    /// Pull of the weights towards zero; norms and biases are left out.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// Gradients longer than this are shortened to it; zero leaves them.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(crate) max_grad_norm: f64,
    #[serde(flatten)]
    pub(crate) watch: Watch,
}

impl Training {
    /// What its parameters must not say together.
    pub(crate) fn rules() -> Vec<Rule> {
        let mut rules = Watch::rules();
        rules.push(rule(
            "the warm-up is longer than the training: lower `warmup_steps`, or raise `steps`",
            [param("warmup_steps").above("steps"), param("steps").above(0)],
        ));
        rules
    }

    /// What says how long a training is, and when a longer one begins with what a shorter one did.
    pub(crate) fn length() -> Length {
        Length {
            params: ["steps", "epochs"].map(str::to_owned).into(),
            extends_when: [("schedule".to_owned(), json!(Decay::Constant))].into(),
        }
    }

    /// The least that trains.
    pub(crate) fn rehearsal() -> serde_json::Value {
        json!({ "steps": 2, "warmup_steps": 0 })
    }

    /// The optimiser of a training of so many steps, at its beginning.
    fn stepper(&self, steps: usize) -> Stepper {
        let adam = AdamSettings { weight_decay: self.weight_decay, ..AdamSettings::default() };
        let schedule = Schedule {
            peak: self.learning_rate,
            decay: self.schedule,
            warmup: self.warmup_steps,
            steps,
        };
        Stepper::new(adam, schedule, self.max_grad_norm)
    }

    /// Rounded up, as in transformers.
    fn total_steps(&self, per_epoch: usize) -> Result<usize, StageError> {
        #[expect(clippy::cast_possible_truncation, reason = "below 2^52 where it is used")]
        #[expect(clippy::cast_sign_loss, reason = "never negative")]
        let by_epochs = (self.epochs * per_epoch as f64).ceil() as usize;
        let steps = self.steps.unwrap_or(by_epochs);
        if steps > MOST_STEPS {
            return Err(StageError::refused(format!(
                "`epochs: {}` is {steps} steps here, and {MOST_STEPS} are the most",
                self.epochs
            )));
        }
        if self.warmup_steps > steps && steps > 0 {
            return Err(StageError::refused(format!(
                "the training takes {steps} steps, so the rate would never get through its \
                 `warmup_steps` of {}: lower them",
                self.warmup_steps
            )));
        }
        Ok(steps)
    }
}

/// The parameters with which a training would have ended after `step` steps.
fn reached(step: usize, per_epoch: usize) -> BTreeMap<String, f64> {
    let step = step as f64;
    [("steps".to_owned(), step), ("epochs".to_owned(), step / per_epoch as f64)].into()
}

fn one() -> f64 {
    1.0
}

fn default_batch() -> usize {
    16
}

fn default_decay() -> Decay {
    Decay::Linear
}

/// What is being minimised over a list of rows.
pub(crate) trait Objective {
    fn rows(&self) -> usize;
    /// What the loss of this row is divided by, summed over a step.
    fn weight(&self, row: usize) -> f64;
    fn tokens(&self, row: usize) -> usize;

    /// Which row of the data it is, from 0, where some were left out.
    fn number(&self, row: usize) -> usize {
        row
    }

    /// The loss of some rows of a step over `all` of them, of which parts come in order.
    fn loss(&self, model: &Model, part: &[usize], all: &[usize]) -> Result<Loss, StageError>;

    /// What a model loses that knows nothing, where that can be said: one that ends far above has gone astray.
    fn loss_of_a_guess(&self, _model: &Model) -> Option<f64> {
        None
    }
}

/// Steps over rows that are there from the start, in an order of its own for each epoch.
struct OffLine<'a> {
    model: &'a Model,
    objective: &'a dyn Objective,
    /// What it is measured on.
    test: Option<&'a dyn Objective>,
    training: &'a Training,
    stepper: Stepper,
    orders: Stream,
    /// The rows that have something to learn.
    usable: Vec<usize>,
    /// The order of the epoch under way.
    shuffled: (usize, Vec<usize>),
    per_epoch: usize,
    started: Instant,
    tokens_seen: usize,
}

impl Learner for OffLine<'_> {
    fn iterate(&mut self, step: usize, observer: &mut dyn Observer) -> Result<Point, StageError> {
        let (epoch, place) = (step / self.per_epoch, step % self.per_epoch);
        let Self { objective, training, .. } = *self;
        if self.shuffled.0 != epoch {
            let orders = self.orders.at(epoch);
            self.shuffled = (epoch, orders.order(&self.usable, |row| objective.number(row)));
        }
        let end = self.usable.len().min((place + 1) * training.batch);
        let rows = &self.shuffled.1[place * training.batch..end];
        let parts: Vec<&[usize]> =
            rows.chunks(training.micro_batch.unwrap_or(rows.len())).collect();
        let weight = rows.iter().map(|row| objective.weight(*row)).sum();
        let taken = self.stepper.step(self.model, parts.len(), weight, |i| {
            observer.heard()?;
            objective.loss(self.model, parts[i], rows)
        });
        let point = taken.map_err(|error| with_rows(error, objective, rows))?;
        self.tokens_seen += rows.iter().map(|row| objective.tokens(*row)).sum::<usize>();
        Ok(point)
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let parameters = &self.model.parameters;
        vec![Part { name: "model", parameters, optimizer: self.stepper.optimizers().next() }]
    }

    fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.model.parameters
    }

    fn measure(
        &mut self,
        _step: usize,
        observer: &mut dyn Observer,
    ) -> Result<Map<String, Value>, StageError> {
        let Some(test) = self.test else { return Ok(Map::new()) };
        let rows = self.training.micro_batch.unwrap_or(self.training.batch);
        measured(self.model, test, rows, &mut || observer.heard())
    }

    fn resume(&mut self, state: State) -> Result<Vec<Point>, StageError> {
        self.stepper.resume(state.optimizers);
        Ok(state.curve)
    }

    /// A step that is given up has only added to gradients.
    fn is_whole(&self) -> bool {
        true
    }

    fn reached(&self, step: usize) -> BTreeMap<String, f64> {
        reached(step, self.per_epoch)
    }

    fn said(&self, point: &Point) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        format!("loss {:.4}, {:.0} tokens/s", point.loss, self.tokens_seen as f64 / seconds)
    }
}

/// What the objective loses on all its rows, and its metrics, by names that begin with `test_`: means over what it weighs them
/// by, `rows` of them at once.
fn measured(
    model: &Model,
    objective: &dyn Objective,
    rows: usize,
    heard: &mut dyn FnMut() -> Result<(), StageError>,
) -> Result<Map<String, Value>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let all: Vec<usize> =
        (0..objective.rows()).filter(|row| objective.weight(*row) > 0.0).collect();
    let weight: f64 = all.iter().map(|row| objective.weight(*row)).sum();
    let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
    for part in all.chunks(rows.max(1)) {
        heard()?;
        let found = objective.loss(model, part, &all)?;
        for (name, sum) in found.metrics.into_iter().chain([("loss", found.sum)]) {
            *sums.entry(name).or_default() += sum.f_double_value(&[])?;
        }
    }
    let mean = |(name, sum): (&str, f64)| (format!("test_{name}"), (sum / weight.max(1.0)).into());
    Ok(sums.into_iter().map(mean).collect())
}

/// Trains `model`, whose parameters must be [`Model::trainable`]; each epoch takes the rows in an order that
/// `orders` gives. On the way it is measured on `test`, as `training` says.
pub(crate) fn train(
    model: &Model,
    (objective, test): (&dyn Objective, Option<&dyn Objective>),
    training: &Training,
    orders: Stream,
    observer: &mut dyn Observer,
) -> Result<Learnt, StageError> {
    let usable: Vec<usize> =
        (0..objective.rows()).filter(|row| objective.weight(*row) > 0.0).collect();
    if usable.is_empty() {
        return Err(StageError::refused("there is no row with a token to learn"));
    }
    let per_epoch = usable.len().div_ceil(training.batch);
    let steps = training.total_steps(per_epoch)?;
    let mut learner = OffLine {
        model,
        objective,
        test,
        training,
        stepper: training.stepper(steps),
        orders,
        usable,
        shuffled: (usize::MAX, Vec::new()),
        per_epoch,
        started: Instant::now(),
        tokens_seen: 0,
    };
    let learnt = learn(&mut learner, steps, &training.watch, observer)?;
    if let Some(words) = astray(&learnt.curve, objective.loss_of_a_guess(model)) {
        observer.note(words);
    }
    Ok(learnt)
}

/// A warning, where the last losses are far above that of a guess.
fn astray(curve: &[Point], guess: Option<f64>) -> Option<String> {
    let last = &curve[curve.len().saturating_sub(10)..];
    let mean = last.iter().map(|point| point.loss).sum::<f64>() / last.len().max(1) as f64;
    let guess = guess.filter(|guess| mean > 2.0 * guess)?;
    Some(format!(
        "warning: the loss ended at {mean:.2}, and to guess costs {guess:.2}: the training has gone \
         astray; a lower `learning_rate` may help"
    ))
}

fn with_rows(error: StageError, objective: &dyn Objective, rows: &[usize]) -> StageError {
    match error {
        StageError::Refused(words) => {
            let number = |row: &usize| (objective.number(*row) + 1).to_string();
            let rows: Vec<String> = rows.iter().take(16).map(number).collect();
            StageError::Refused(format!("{words} (rows {})", rows.join(", ")))
        }
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Hears nothing.
    pub(crate) struct Silent;

    impl Observer for Silent {
        fn progress(&mut self, _: usize, _: usize, _: &str) -> Result<(), StageError> {
            Ok(())
        }

        fn metric(&mut self, _: &str, _: usize, _: f64) {}
    }

    #[test]
    fn fractions_of_an_epoch_round_up_and_none_is_none() {
        let steps = |change: &str| {
            let mut text = serde_json::json!({ "learning_rate": 0.01 });
            let change: serde_json::Value = serde_json::from_str(change).unwrap();
            text.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let training: Training = serde_json::from_value(text).unwrap();
            training.total_steps(7).map_err(|error| error.to_string())
        };
        assert_eq!(steps(r#"{"epochs": 0}"#), Ok(0));
        assert_eq!(steps(r#"{"epochs": 0.01}"#), Ok(1));
        assert_eq!(steps(r#"{"epochs": 2.5}"#), Ok(18));
        assert_eq!(steps(r#"{"epochs": 2, "steps": 3}"#), Ok(3));
        assert!(steps(r#"{"epochs": 1e18}"#).unwrap_err().contains("the most"));
        assert!(steps(r#"{"warmup_steps": 8}"#).unwrap_err().contains("`warmup_steps` of 8"));
    }

    #[test]
    fn a_loss_far_above_that_of_a_guess_is_warned_of() {
        let point = |loss| Point {
            step: 1,
            loss,
            grad_norm: 1.0,
            learning_rate: 1.0,
            metrics: serde_json::Map::new(),
        };
        assert!(astray(&[point(1.0), point(20.0)], Some(3.0)).unwrap().contains("ended at 10.50"));
        assert_eq!(astray(&[point(5.0)], Some(3.0)), None);
        assert_eq!(astray(&[point(50.0)], None), None);
        assert_eq!(astray(&[], Some(3.0)), None);
    }

    pub(crate) fn training(batch: usize, micro_batch: usize) -> Training {
        let micro_batch = Some(micro_batch);
        let text = serde_json::json!({ "learning_rate": 0.01, "epochs": 2, "batch": batch });
        Training { micro_batch, ..serde_json::from_value(text).unwrap() }
    }
}
