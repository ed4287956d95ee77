//! `policy.nft`: negative-aware fine-tuning (Chen et al. 2025, "Bridging Supervised Learning and Reinforcement Learning in Math
//! Reasoning").
//!
//! What sampled is a mixture of a policy that is right and one that is wrong. Who fits the first has fitted the second, too, so
//! wrong answers are learnt from by maximum likelihood, as right ones are.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    negative_aware::{NegativeAware, Weighting},
    training::OnLineTraining,
};
use crate::error::StageError;

/// Negative-aware fine-tuning.
pub(crate) struct Nft;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt: the group.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// Completions with a reward above this are right, all others wrong.
    #[serde(default = "half")]
    right_above: f64,
    /// What wrong completions weigh; 0 makes it rejection sampling fine-tuning (RFT) on-line.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    negative_weight: f64,
    /// The least that the ratio of what is left over for wrong completions counts; less lets it push harder where a wrong one has
    /// become likely.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0001))]
    epsilon: f64,
    /// What prompts weigh, by their share of right completions. Prompts with none or nothing else teach nothing.
    #[serde(default)]
    weighting: Weighting,
}

fn sixteen() -> usize {
    16
}
fn half() -> f64 {
    0.5
}
fn one() -> f64 {
    1.0
}

impl CriticFree for Nft {
    const KIND: &'static str = "policy.nft";
    const REVISION: u32 = 2;
    const DOC: &'static str =
        "Learn on-line from right and wrong completions by maximum likelihood (NFT).

The curve is that of `policy.grpo`, with `clipped`, the share of tokens at which `epsilon` held.";
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
        let loss = NegativeAware {
            negative_weight: self.negative_weight,
            least: self.epsilon,
            weighting: self.weighting,
        };
        // r − r_q.
        let credit = Credit::Rows(vec![Term::Above(self.right_above), Term::GroupMean]);
        self.training.method(credit, loss)
    }
}
