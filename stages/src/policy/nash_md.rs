//! `policy.nash_md`: Nash learning from human feedback by policy gradient (Munos et al. 2023).
//!
//! The policy learns from how often it is preferred to a rival, a mixture of itself and its reference, so that it nears the policy
//! that none beats even where preferences go in circles.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    credit::Credit,
    critic_free::{CriticFree, How},
    method::{Method, Rival},
    shaping::Shaping,
    surrogate::{Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Nash learning.
pub(crate) struct NashMd;

/// Whom the policy plays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Who {
    /// A geometric mixture of the policy and its reference, `mixture` of it the reference: Nash-MD. At 0 it is the policy itself
    /// (self-play), at 1 the reference (best response).
    #[default]
    Mixture,
    /// The policy with averaged weights, of which `average` stays at every step: Nash-EMA.
    Average,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt, and replies of the rival to it; each meets all of the other side.
    #[serde(default = "one_each")]
    #[schemars(range(min = 1))]
    samples_per_prompt: usize,
    /// Whom the policy plays.
    #[serde(default)]
    rival: Who,
    /// Of `rival: mixture`: the reference's share, the paper's β.
    #[serde(default = "quarter")]
    #[schemars(range(min = 0.0, max = 1.0))]
    mixture: f64,
    /// What a nat of divergence from the reference costs, at the token and all before it: the paper's τ.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    tau: f64,
    /// What is taken off a completion's reward: what even odds are worth.
    #[serde(default = "half")]
    baseline: f64,
    /// Ratios to the policy that sampled count between 1 less this and 1 and this; it matters where completions are learnt from more
    /// than once.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip: f64,
}

fn one_each() -> usize {
    1
}
fn quarter() -> f64 {
    0.25
}
fn tenth() -> f64 {
    0.1
}
fn half() -> f64 {
    0.5
}
fn fifth() -> f64 {
    0.2
}

impl CriticFree for NashMd {
    const KIND: &'static str = "policy.nash_md";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn on-line the policy that no other is preferred to (Nash-MD).

Its reward is how often a completion is preferred to what a rival says to the same prompt: `rewards: { win: { from: \
preference_model, against: rival } }`. The rival is sampled anew in each iteration, token by token from the geometric mixture of the \
policy and its reference (Munos et al. 2023). A token has the advantage `P(y ≻ y') − ½ − τ Σ log π/μ`, where the sum is over it and \
what follows. There is no critic. Judge what comes out by `evaluate.duality_gap`, or against several others: that it wins against \
where it began says little. The curve is that of `policy.grpo`.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "`rival: average` plays averaged weights: say how much of them stays at every step, `average: 0.99`",
            [param("rival").is(["average"]), param("average").missing()],
        )]
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        Ok(How {
            training: &params.training,
            samples: params.samples_per_prompt,
            method: params.method(),
            held: true,
        })
    }
}

impl Params {
    fn method(&self) -> Method {
        let surrogate = Surrogate::clipped(SurrogateLoss::Luspo, self.clip, self.clip);
        let credit = Credit::ToGo { gamma: 1.0, baseline: self.baseline };
        Method {
            shaping: Shaping { kl: self.tau, ..Shaping::NONE },
            rival: Some(match self.rival {
                Who::Mixture => Rival::Mixture(self.mixture),
                Who::Average => Rival::Average,
            }),
            ..self.training.method(credit, surrogate)
        }
    }
}
