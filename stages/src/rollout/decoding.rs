//! How completions are sampled: parameters of `rollout.sample` and `evaluate.policy`, and part of what was measured with.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::steered::Steered;
use crate::{
    nn::sampling::Sampling,
    rules::{param, rule},
};

/// What is to be sampled. Kinds flatten this into their own parameters.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Wanted {
    /// Prompts that are used, from the first; all by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) prompts: Option<usize>,
    #[serde(flatten)]
    pub(crate) decoding: Decoding,
    /// Completions that are sampled side by side. More are faster and need more memory.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1))]
    pub(crate) batch: usize,
}

fn default_rows() -> usize {
    128
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Decoding {
    /// Completions of each prompt. More make intervals narrower.
    #[serde(default = "default_samples")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) samples_per_prompt: usize,
    /// Tokens after which a completion is cut.
    #[serde(default = "default_new")]
    #[schemars(range(min = 1))]
    pub(crate) max_new_tokens: usize,
    /// How evenly tokens are drawn: 1 as the model says, less keeps to likely ones, 0 takes the most
    /// likely. Anything but 1 measures a policy other than the one that was trained.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub(crate) temperature: f64,
    /// Draws among so many of the most likely tokens; 0 among all.
    #[serde(default)]
    pub(crate) top_k: u32,
    /// Draws among the most likely tokens that have this mass together.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) top_p: f64,
    /// Draws among tokens at least this share as likely as the most likely.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) min_p: f64,
    /// Above 1, makes tokens that are there already less likely.
    #[serde(default = "one")]
    #[schemars(range(min = 0.01))]
    pub(crate) repetition_penalty: f64,
    /// Of `temperature: 0`: keeps so many beginnings and takes the completion that is likeliest as a whole, by the sum of log p; with 1
    /// the likeliest token is taken each time. Policies that were trained on preferences are searched by what they have learnt to
    /// prefer; with many the likeliest completion may be a short or a strange one.
    #[serde(default = "one_beam", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000), extend("default" = 1, "neutral" = 1))]
    pub(crate) beams: usize,
    /// Control tokens that are put in for the policy, and tokens that it must not say.
    #[serde(default, skip_serializing_if = "Steered::is_none")]
    #[schemars(extend(
        "default" = { "control": null, "first": true, "after": null, "forbid": [], "only": [] },
        "neutral" = { "control": null, "first": true, "after": null, "forbid": [], "only": [] },
    ))]
    pub(crate) steering: Steered,
}

fn default_samples() -> usize {
    1
}
fn default_new() -> usize {
    64
}
fn one() -> f64 {
    1.0
}
fn one_beam() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(beams: &usize) -> bool {
    *beams == 1
}

impl Decoding {
    /// What its parameters must not say together.
    pub(crate) fn rules() -> Vec<Rule> {
        let greedy = || param("temperature").is([0]);
        vec![
            rule(
                "`temperature: 0` takes the most likely token, so every completion of a prompt is the same: \
                 lower `samples_per_prompt` to 1",
                [param("samples_per_prompt").above(1), greedy()],
            ),
            rule(
                "`temperature: 0` takes the most likely token, whatever `top_k` is: take one of the two out",
                [param("top_k").above(0), greedy()],
            ),
            rule(
                "`temperature: 0` takes the most likely token, whatever `min_p` is: take one of the two out",
                [param("min_p").above(0), greedy()],
            ),
            rule(
                "`beams` look for the likeliest completion, and `temperature` draws one: set `temperature` to 0",
                [param("beams").above(1), param("temperature").above(0)],
            ),
            rule(
                "`beams` go by the policy's own log p, which `repetition_penalty` changes: take one of the two out",
                [param("beams").above(1), param("repetition_penalty").above(1)],
            ),
        ]
    }

    /// Tokens beside a prompt that it needs room for.
    pub(crate) fn room(&self) -> usize {
        self.max_new_tokens + self.steering.room()
    }

    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k.into(),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        }
    }

    /// The names of the settings that differ, each with both values.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let settings = |it: &Self| serde_json::to_value(it).unwrap_or_default();
        let (ours, theirs) = (settings(self), settings(other));
        let fields = ours.as_object().into_iter().flatten();
        let differ = fields.filter(|(name, value)| theirs.get(name) != Some(value));
        differ.map(|(name, value)| format!("`{name}` ({value} and {})", theirs[name])).collect()
    }
}
