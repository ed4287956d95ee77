//! How the step size changes over training, with the values that transformers gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of the learning rate after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decay {
    /// Stays as it is, so a longer training goes on where a shorter one ended.
    Constant,
    /// Falls in a straight line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    Cosine,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) peak: f64,
    pub(crate) decay: Decay,
    pub(crate) warmup: usize,
    pub(crate) steps: usize,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub(crate) fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / rest).min(1.0);
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay) -> Vec<f64> {
        let schedule = Schedule { peak: 1.0, decay, warmup: 2, steps: 6 };
        (0..6).map(|step| schedule.at(step)).collect()
    }

    #[test]
    fn the_rate_climbs_then_falls() {
        assert_eq!(rates(Decay::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Decay::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
        let cosine = rates(Decay::Cosine);
        assert!((cosine[4] - 0.5).abs() < 1e-12 && (cosine[3] - 0.853_553_39).abs() < 1e-8);
    }
}
