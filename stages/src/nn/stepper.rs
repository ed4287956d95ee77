//! One step of an optimiser: gradients of parts added up, shortened, taken. Several models, a policy and its critic say, may
//! step together: each has an optimiser and a rate of its own, and their gradients are shortened together.

use tch::{Kind, Tensor};

use super::{
    adamw::{AdamSettings, AdamW, gradient_norm},
    curve::Point,
    decoder::Model,
    head::Tail,
    schedule::Schedule,
};
use crate::error::StageError;

/// What rows cost. Everything is a sum over the rows given.
pub(crate) struct Loss {
    pub(crate) sum: Tensor,
    /// Further sums to be shown, divided like the loss.
    pub(crate) metrics: Vec<(&'static str, Tensor)>,
    /// What is left to do on the way back through the first model, once `sum` was taken back.
    pub(crate) tail: Option<Tail>,
}

/// One model's optimiser, whose steps are its clock.
struct Track {
    optimizer: AdamW,
    schedule: Schedule,
}

/// Optimisers that step together.
pub(crate) struct Stepper {
    tracks: Vec<Track>,
    max_grad_norm: f64,
}

impl Stepper {
    pub(crate) fn new(adam: AdamSettings, schedule: Schedule, max_grad_norm: f64) -> Self {
        let stepper = Self { tracks: Vec::new(), max_grad_norm };
        stepper.with(adam, schedule)
    }

    /// The same with one model more.
    pub(crate) fn with(mut self, adam: AdamSettings, schedule: Schedule) -> Self {
        self.tracks.push(Track { optimizer: AdamW::new(adam), schedule });
        self
    }

    /// In the order of their models.
    pub(crate) fn optimizers(&self) -> impl Iterator<Item = &AdamW> {
        self.tracks.iter().map(|track| &track.optimizer)
    }

    /// Stands where these were kept.
    pub(crate) fn resume(&mut self, optimizers: Vec<AdamW>) {
        for (track, optimizer) in self.tracks.iter_mut().zip(optimizers) {
            track.optimizer = optimizer;
        }
    }

    /// Adds up the gradients of `parts` losses divided by `weight`, then takes a step with one model.
    pub(crate) fn step(
        &mut self,
        model: &Model,
        parts: usize,
        weight: f64,
        loss: impl FnMut(usize) -> Result<Loss, StageError>,
    ) -> Result<Point, StageError> {
        self.step_together(&[Some(model)], parts, weight, loss)
    }

    /// The same with several; those that are none wait. The rate that is shown is that of the first to step.
    pub(crate) fn step_together(
        &mut self,
        models: &[Option<&Model>],
        parts: usize,
        weight: f64,
        mut loss: impl FnMut(usize) -> Result<Loss, StageError>,
    ) -> Result<Point, StageError> {
        let mut shown: Vec<(&'static str, Tensor)> = Vec::new();
        for part in 0..parts {
            let Loss { sum, metrics, tail } = loss(part)?;
            let sum = sum / weight;
            sum.f_backward()?;
            if let (Some(tail), Some(first)) = (tail, models[0]) {
                tail.backward(first)?;
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
        let stepping = || models.iter().flatten();
        shown.push(("grad_norm", gradient_norm(stepping().flat_map(|it| it.parameters.values()))));
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
        let tracks = || (0..models.len()).filter(|at| models[*at].is_some());
        let first = tracks().next().unwrap_or(0);
        let step = self.tracks[first].optimizer.steps() + 1;
        if !value.is_finite() || !norm.is_finite() {
            return Err(StageError::refused(format!(
                "step {step}: the loss is {value} and the gradient's norm {norm}; a lower `learning_rate` \
                 may help"
            )));
        }
        let clip = self.max_grad_norm / (norm + 1e-6);
        let scale = if self.max_grad_norm > 0.0 && clip < 1.0 { clip } else { 1.0 };
        let mut rates = Vec::new();
        for (track, model) in self.tracks.iter_mut().zip(models) {
            let Some(model) = model else { continue };
            let rate = track.schedule.at(track.optimizer.steps());
            track.optimizer.step(&model.parameters, rate, scale);
            rates.push(rate);
        }
        metrics.remove("loss");
        metrics.remove("grad_norm");
        let learning_rate = rates.first().copied().unwrap_or(0.0);
        Ok(Point { step, loss: value, grad_norm: norm, learning_rate, metrics })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nn::{config::tests::tiny, schedule::Decay};

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
    fn models_that_step_together_have_rates_of_their_own_and_one_limit() {
        let model = || {
            let weight = Tensor::from_slice(&[0_f32]).set_requires_grad(true);
            let parameters = BTreeMap::from([("w".to_owned(), weight)]);
            Model { config: tiny(), parameters }
        };
        let (policy, critic) = (model(), model());
        let adam = AdamSettings { epsilon: 1.0, ..AdamSettings::default() };
        let at = |peak| Schedule { peak, decay: Decay::Constant, warmup: 0, steps: 1 };
        let mut stepper = Stepper::new(adam, at(1.0), 5.0).with(adam, at(10.0));
        let loss = |_| {
            let sum = &policy.parameters["w"] * 6.0 + &critic.parameters["w"] * 8.0;
            Ok(Loss { sum: sum.sum(Kind::Float), metrics: Vec::new(), tail: None })
        };
        let weights = || [&policy, &critic].map(|it| it.parameters["w"].double_value(&[0]));
        let close = |by_hand: [f64; 2]| {
            assert!(weights().iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5));
        };
        // The critic alone: 8, shortened to 5.
        let point = stepper.step_together(&[None, Some(&critic)], 1, 1.0, loss).unwrap();
        assert!((point.grad_norm - 8.0).abs() < 1e-5 && (point.learning_rate - 10.0).abs() < 1e-9);
        close([0.0, -10.0 * 5.0 / 6.0]);
        // What the other collected meanwhile is not stepped along, nor does it stay.
        let _ = policy.parameters["w"].grad().zero_();
        let point = stepper.step_together(&[Some(&policy), Some(&critic)], 1, 1.0, loss).unwrap();
        // (6, 8) · 5 / 10 = (3, 4).
        assert!((point.grad_norm - 10.0).abs() < 1e-5 && (point.learning_rate - 1.0).abs() < 1e-9);
        assert!((weights()[0] + 3.0 / 4.0).abs() < 1e-5);
    }
}
