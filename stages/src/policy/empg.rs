//! `policy.empg`: entropy-modulated policy gradients (Wang et al. 2025, "Harnessing Uncertainty: Entropy-Modulated Policy Gradients
//! for Long-Horizon LLM Agents").
//!
//! The gradient of a step is the larger the less sure the policy was of it, so steps that were sure, and right, learn little, and
//! unsure ones much noise. What a step learns is scaled by its entropy, and a step pays more that leads to where the policy is
//! sure.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    modulation::{Modulation, Steps},
    surrogate::{Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::error::StageError;

/// Entropy-modulated policy gradients.
pub(crate) struct Empg;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt: the group.
    #[serde(default = "eight")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// How strongly a step's entropy scales what it learns: the paper's k. 0 leaves it.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    sharpness: f64,
    /// How strongly the next step's entropy counts against it: the paper's k'.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    future_sharpness: f64,
    /// What it is worth that the next step is sure: the paper's ζ.
    #[serde(default = "twentieth")]
    #[schemars(range(min = 0.0))]
    future_weight: f64,
    /// How many tokens are a step. By default a step is a reply to the `environment`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    step_tokens: Option<usize>,
    /// Ratios count down to 1 less this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_low: f64,
    /// Ratios count up to 1 and this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_high: f64,
}

fn eight() -> usize {
    8
}
fn one() -> f64 {
    1.0
}
fn twentieth() -> f64 {
    0.05
}
fn fifth() -> f64 {
    0.2
}

impl CriticFree for Empg {
    const KIND: &'static str = "policy.empg";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line from groups, where what a step learns is scaled by its entropy (EMPG).

Beside that it is GRPO: an advantage is what a completion is better than the mean of its group, divided by the group's deviation, \
and the loss is the mean over all tokens. The curve is that of `policy.grpo`.";
    type Params = Params;

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        Ok(How {
            training: &params.training,
            samples: params.samples_per_prompt,
            method: params.method(),
            held: false,
        })
    }
}

impl Params {
    fn method(&self) -> Method {
        let surrogate = Surrogate::clipped(SurrogateLoss::Dapo, self.clip_low, self.clip_high);
        let steps = Steps {
            sharpness: self.sharpness,
            future_sharpness: self.future_sharpness,
            future_weight: self.future_weight,
            tokens: self.step_tokens,
        };
        let credit = Credit::Rows(vec![Term::GroupMean, Term::GroupDeviation]);
        Method {
            modulation: Some(Modulation::Steps(steps)),
            ..self.training.method(credit, surrogate)
        }
    }
}
