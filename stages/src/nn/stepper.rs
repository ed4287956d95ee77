//! One step of an optimiser: gradients of parts added up, shortened, taken.

use tch::{Kind, Tensor};

use super::{
    adamw::{AdamSettings, AdamW, gradient_norm},
    checkpoint::State,
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
    /// What is left to do on the way back, once `sum` was taken back.
    pub(crate) tail: Option<Tail>,
}

/// One optimiser with its clock.
pub(crate) struct Stepper {
    pub(super) optimizer: AdamW,
    schedule: Schedule,
    max_grad_norm: f64,
    step: usize,
}

impl Stepper {
    pub(crate) fn new(adam: AdamSettings, schedule: Schedule, max_grad_norm: f64) -> Self {
        Self { optimizer: AdamW::new(adam), schedule, max_grad_norm, step: 0 }
    }

    /// Stands where `state` was kept.
    pub(crate) fn resume(&mut self, state: State) -> Vec<Point> {
        (self.step, self.optimizer) = (state.step, state.optimizer);
        state.curve
    }

    /// Stands behind so many steps, where several of them are one of the learner's.
    pub(crate) fn stand_at(&mut self, step: usize) {
        self.step = step;
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
}
