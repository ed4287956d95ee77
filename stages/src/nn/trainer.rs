//! The training loop that all fine-tuning shares: shuffle, split into micro-batches, step.
//!
//! A step's loss is a sum over its rows divided by the weight of the whole step (labels, or pairs), so
//! one batch of eight rows and eight batches of one row take the same step.

use std::{collections::BTreeMap, time::Instant};

use gradus_protocol::{
    Checkpoints,
    catalog::{Length, Rule},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    adamw::{AdamSettings, AdamW, gradient_norm},
    checkpoint::{Keeper, Now, State},
    curve::Point,
    decoder::Model,
    head::Tail,
    schedule::{Decay, Schedule},
    stream::Stream,
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
}

impl Training {
    /// What its parameters must not say together.
    pub(crate) fn rules() -> Vec<Rule> {
        vec![rule(
            "the warm-up is longer than the training: lower `warmup_steps`, or raise `steps`",
            [param("warmup_steps").above("steps"), param("steps").above(0)],
        )]
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

/// What rows cost. Everything is a sum over the rows given.
pub(crate) struct Loss {
    pub(crate) sum: Tensor,
    /// Further sums to be shown, divided like the loss.
    pub(crate) metrics: Vec<(&'static str, Tensor)>,
    /// What is left to do on the way back, once `sum` was taken back.
    pub(crate) tail: Option<Tail>,
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

    fn loss(&self, model: &Model, rows: &[usize]) -> Result<Loss, StageError>;

    /// What a model loses that knows nothing, where that can be said: one that ends far above has gone astray.
    fn loss_of_a_guess(&self, _model: &Model) -> Option<f64> {
        None
    }
}

/// Hears about training; a stage's context is one.
pub(crate) trait Observer {
    fn progress(&mut self, done: usize, total: usize, note: &str) -> Result<(), StageError>;
    fn metric(&mut self, name: &str, step: usize, value: f64);

    /// [`StageError::Cancelled`] if the person asked for an end.
    fn heard(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// The state is about to be written, since the person asked for an end: that may take a while.
    fn saving(&mut self) {}

    /// A line for the person who waits.
    fn note(&mut self, _words: String) {}

    /// Where and how often the state is kept, if at all.
    fn checkpoints(&self) -> Option<Checkpoints> {
        None
    }
}

/// One optimiser with its clock.
pub(crate) struct Stepper {
    optimizer: AdamW,
    schedule: Schedule,
    max_grad_norm: f64,
    step: usize,
}

impl Stepper {
    pub(crate) fn new(adam: AdamSettings, schedule: Schedule, max_grad_norm: f64) -> Self {
        Self { optimizer: AdamW::new(adam), schedule, max_grad_norm, step: 0 }
    }

    /// Stands where `state` was kept.
    fn resume(&mut self, state: State) -> Vec<Point> {
        (self.step, self.optimizer) = (state.step, state.optimizer);
        state.curve
    }

    /// Adds up the gradients of `parts` losses divided by `weight`, then takes a step.
    pub(crate) fn step(
        &mut self,
        model: &Model,
        parts: usize,
        weight: f64,
        mut loss: impl FnMut(usize) -> Result<Loss, StageError>,
    ) -> Result<Point, StageError> {
        let mut shown: Vec<(&'static str, Tensor)> = Vec::new();
        for part in 0..parts {
            let Loss { sum, metrics, tail } = loss(part)?;
            let sum = sum / weight;
            sum.f_backward()?;
            if let Some(tail) = tail {
                tail.backward(model)?;
            }
            let all = std::iter::once(("loss", sum.detach()))
                .chain(metrics.into_iter().map(|(name, sum)| (name, sum.detach() / weight)));
            for (name, value) in all {
                match shown.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, total)) => *total += value,
                    None => shown.push((name, value)),
                }
            }
        }
        shown.push(("grad_norm", gradient_norm(&model.parameters)));
        // One wait for the device per step.
        let values: Vec<Tensor> =
            shown.iter().map(|(_, v)| v.to_kind(Kind::Double).view([])).collect();
        let values = Vec::<f64>::try_from(Tensor::stack(&values, 0))?;
        let mut metrics: serde_json::Map<String, serde_json::Value> = shown
            .iter()
            .map(|(name, _)| name.to_string())
            .zip(values.iter().map(|v| (*v).into()))
            .collect();
        let (value, norm) = (values[0], values[values.len() - 1]);
        self.step += 1;
        if !value.is_finite() || !norm.is_finite() {
            return Err(StageError::refused(format!(
                "step {}: the loss is {value} and the gradient's norm {norm}; a lower `learning_rate` \
                 may help",
                self.step
            )));
        }
        let clip = self.max_grad_norm / (norm + 1e-6);
        let scale = if self.max_grad_norm > 0.0 && clip < 1.0 { clip } else { 1.0 };
        let rate = self.schedule.at(self.step - 1);
        self.optimizer.step(&model.parameters, rate, scale);
        metrics.remove("loss");
        metrics.remove("grad_norm");
        Ok(Point { step: self.step, loss: value, grad_norm: norm, learning_rate: rate, metrics })
    }
}

/// Trains `model`, whose parameters must be [`Model::trainable`]; each epoch takes the rows in an order that
/// `orders` gives. Goes on where an interrupted run of the
/// same stage stood, or a shorter one of the same line ended, to the same bytes.
pub(crate) fn train(
    model: &Model,
    objective: &dyn Objective,
    training: &Training,
    mut orders: Stream,
    observer: &mut dyn Observer,
) -> Result<Vec<Point>, StageError> {
    let usable: Vec<usize> =
        (0..objective.rows()).filter(|row| objective.weight(*row) > 0.0).collect();
    if usable.is_empty() {
        return Err(StageError::refused("there is no row with a token to learn"));
    }
    let per_epoch = usable.len().div_ceil(training.batch);
    let steps = training.total_steps(per_epoch)?;
    let adam = AdamSettings { weight_decay: training.weight_decay, ..AdamSettings::default() };
    let schedule = Schedule {
        peak: training.learning_rate,
        decay: training.schedule,
        warmup: training.warmup_steps,
        steps,
    };
    let mut stepper = Stepper::new(adam, schedule, training.max_grad_norm);
    let mut keeper = Keeper::new(observer.checkpoints());
    let mut curve = match keeper.newest(steps, adam, &model.parameters) {
        Some(state) => {
            observer.note(format!("goes on from step {} of {steps}", state.step));
            stepper.resume(state)
        }
        None => Vec::new(),
    };
    let (started, mut tokens_seen) = (Instant::now(), 0);
    let mut shuffled = (usize::MAX, Vec::new());
    observer.progress(stepper.step, steps, "")?;
    for step in stepper.step..steps {
        let (epoch, place) = (step / per_epoch, step % per_epoch);
        if shuffled.0 != epoch {
            let order = orders.at(epoch).order(&usable, |row| objective.number(row));
            shuffled = (epoch, order);
        }
        let end = usable.len().min((place + 1) * training.batch);
        let rows = &shuffled.1[place * training.batch..end];
        let parts: Vec<&[usize]> =
            rows.chunks(training.micro_batch.unwrap_or(rows.len())).collect();
        let weight = rows.iter().map(|row| objective.weight(*row)).sum();
        let taken = stepper.step(model, parts.len(), weight, |i| {
            observer.heard()?;
            objective.loss(model, parts[i])
        });
        let (done, heard) = match taken {
            Ok(point) => {
                tokens_seen += rows.iter().map(|row| objective.tokens(*row)).sum::<usize>();
                let per_second = tokens_seen as f64 / started.elapsed().as_secs_f64().max(1e-9);
                tell(&point, observer);
                let note = format!("loss {:.4}, {per_second:.0} tokens/s", point.loss);
                curve.push(point);
                (step + 1, observer.progress(step + 1, steps, &note))
            }
            // Within a step: the weights are still those of the one before.
            Err(StageError::Cancelled) => (step, Err(StageError::Cancelled)),
            Err(error) => return Err(with_rows(error, objective, rows)),
        };
        let stopped = matches!(heard, Err(StageError::Cancelled)) && !keeper.holds(done);
        let end = done == steps;
        if if end { keeper.keeps_last() } else { stopped || keeper.is_due(done) } {
            if stopped {
                observer.saving();
            }
            let kept = keeper.keep(&Now {
                step: done,
                end,
                reached: reached(done, per_epoch),
                parameters: &model.parameters,
                optimizer: &stepper.optimizer,
                curve: &curve,
            });
            if let Err(error) = kept {
                // The training itself is sound, and may still end well.
                observer.note(format!("a checkpoint cannot be written: {error}"));
            }
        }
        heard?;
    }
    if let Some(words) = astray(&curve, objective.loss_of_a_guess(model)) {
        observer.note(words);
    }
    Ok(curve)
}

fn tell(point: &Point, observer: &mut dyn Observer) {
    observer.metric("loss", point.step, point.loss);
    observer.metric("grad_norm", point.step, point.grad_norm);
    for (name, value) in &point.metrics {
        observer.metric(name, point.step, value.as_f64().unwrap_or(f64::NAN));
    }
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
    use crate::nn::config::tests::tiny;

    /// Hears nothing.
    pub(crate) struct Silent;

    impl Observer for Silent {
        fn progress(&mut self, _: usize, _: usize, _: &str) -> Result<(), StageError> {
            Ok(())
        }

        fn metric(&mut self, _: &str, _: usize, _: f64) {}
    }

    #[test]
    fn a_gradient_longer_than_the_limit_is_shortened_to_it() {
        let steps = |max_grad_norm: f64| {
            let weight = tch::Tensor::from_slice(&[0_f32, 0.0]).set_requires_grad(true);
            let parameters = BTreeMap::from([("w".to_owned(), weight)]);
            let model = Model { config: tiny(), parameters };
            // With ε = 1 a step is g / (|g| + 1), so its length shows.
            let adam = AdamSettings { epsilon: 1.0, ..AdamSettings::default() };
            let schedule = Schedule { peak: 1.0, decay: Decay::Constant, warmup: 0, steps: 1 };
            let mut stepper = Stepper::new(adam, schedule, max_grad_norm);
            // Two parts of ½ (6, 8) w and a weight of 1: the gradient is (6, 8), of length 10.
            let loss = |_| {
                let sum =
                    (&model.parameters["w"] * Tensor::from_slice(&[3_f32, 4.0])).sum(Kind::Float);
                Ok(Loss { sum, metrics: Vec::new(), tail: None })
            };
            let point = stepper.step(&model, 2, 1.0, loss).unwrap();
            assert!((point.grad_norm - 10.0).abs() < 1e-5);
            Vec::<f64>::try_from(model.parameters["w"].detach().to_kind(Kind::Double)).unwrap()
        };
        let close = |found: &[f64], by_hand: [f64; 2]| {
            assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        };
        close(&steps(0.0), [-6.0 / 7.0, -8.0 / 9.0]);
        close(&steps(20.0), [-6.0 / 7.0, -8.0 / 9.0]);
        // (6, 8) · 5 / 10
        close(&steps(5.0), [-3.0 / 4.0, -4.0 / 5.0]);
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
