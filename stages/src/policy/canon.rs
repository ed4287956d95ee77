//! `policy.canon`: conditional advantage estimation (Chen et al. 2026, "CANON: Conditional Advantage Estimation for Reinforcement
//! Learning in Large Reasoning Models").
//!
//! The siblings of a completion are cut into two halves by a metric, and it is compared with the half that it is not in: which
//! trend pays? And with its own: who is best within it? So a metric's influence grows without anybody saying whether more or less
//! of it is better.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    conditional::{Conditional, Half, Metric, Schedule},
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    surrogate::{Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Conditional advantage estimation.
pub(crate) struct Canon;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt: the group. Halves are equal where it is even.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// What a group is cut into halves by: `tokens`, `entropy` (the mean of its tokens', of the policy that sampled), `order` (a
    /// control: it means nothing), or the name of one of the `rewards`.
    #[serde(default = "tokens")]
    metric: String,
    /// How much the other half counts beside the own: the paper's μ. 1 is CANON-Inter, 0 CANON-Intra, and 0.5 Dr. GRPO.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    inter_weight: f64,
    /// How that changes while it learns, in place of `inter_weight`.
    #[serde(default)]
    inter_schedule: Schedule,
    /// Of the waves of `inter_schedule`: the iterations until they are over.
    #[serde(default = "wave")]
    #[schemars(range(min = 1))]
    wave_iterations: usize,
    /// Of the waves: the iterations over which they rise first.
    #[serde(default = "rise")]
    wave_warmup: usize,
    /// What the half that is not favoured counts against the other: the paper's α. Below 1 it is CANON-Eff.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    discount: f64,
    /// Which half is favoured where `discount` is below 1: that of few tokens say.
    #[serde(default)]
    favours: Half,
    /// Ratios count down to 1 less this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_low: f64,
    /// Ratios count up to 1 and this.
    #[serde(default = "higher")]
    #[schemars(range(min = 0.0))]
    clip_high: f64,
}

fn sixteen() -> usize {
    16
}
fn tokens() -> String {
    "tokens".to_owned()
}
fn one() -> f64 {
    1.0
}
fn wave() -> usize {
    150
}
fn rise() -> usize {
    30
}
fn fifth() -> f64 {
    0.2
}
fn higher() -> f64 {
    0.28
}

impl CriticFree for Canon {
    const KIND: &'static str = "policy.canon";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line from groups that a metric cuts into halves (CANON).

Advantages are not divided by a deviation, and losses are summed as in Dr. GRPO, whose advantages are those of `inter_weight: 0.5` \
with an even group. The curve is that of `policy.grpo`.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "`wave_warmup` is longer than all `wave_iterations`: lower it",
            [param("wave_warmup").above("wave_iterations")],
        )]
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        Ok(How {
            training: &params.training,
            samples: params.samples_per_prompt,
            method: params.method()?,
            held: false,
        })
    }
}

impl Params {
    fn metric(&self) -> Result<Metric, StageError> {
        let metric = Metric::called(&self.metric);
        let known: Vec<&str> = self.training.rewards.names().collect();
        if let Metric::Reward(name) = &metric
            && !known.contains(&name.as_str())
        {
            let all: Vec<String> = ["tokens", "entropy", "order"]
                .iter()
                .chain(&known)
                .map(|it| format!("`{it}`"))
                .collect();
            return Err(StageError::refused(format!(
                "`metric` is `{name}`, and there are {}",
                all.join(", ")
            )));
        }
        Ok(metric)
    }

    fn method(&self) -> Result<Method, StageError> {
        let conditional = Conditional {
            metric: self.metric()?,
            weight: self.inter_weight,
            schedule: self.inter_schedule,
            wave_iterations: self.wave_iterations,
            wave_warmup: self.wave_warmup,
            discount: self.discount,
            favours: self.favours,
        };
        let surrogate = Surrogate::clipped(SurrogateLoss::DrGrpo, self.clip_low, self.clip_high);
        Ok(self.training.method(Credit::Conditional(conditional), surrogate))
    }
}
