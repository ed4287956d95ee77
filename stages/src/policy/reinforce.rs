//! `policy.reinforce`: REINFORCE on completions with what makes it work on language models: a baseline of the other completions
//! of a prompt (RLOO; Ahmadian et al. 2024, "Back to Basics", section 3) or whitening over all tokens (REINFORCE++; Hu et al. 2025).
//!
//! The divergence from the reference is part of the reward. There is no critic.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    shaping::{Estimator, Scaling, Shaping},
    surrogate::{Level, Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// REINFORCE with a baseline.
pub(crate) struct Reinforce;

/// What rewards are held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Baseline {
    /// The mean of the other completions of the prompt; all tokens of a completion have its advantage.
    #[default]
    LeaveOneOut,
    /// The mean of all completions of the prompt.
    Mean,
    /// Nothing: a token has the rewards from it on.
    None,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt.
    #[serde(default = "four")]
    #[schemars(range(min = 1))]
    samples_per_prompt: usize,
    /// What rewards are held against.
    #[serde(default)]
    baseline: Baseline,
    /// Of `baseline: none`: how much a later reward counts of one a token earlier.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    gamma: f64,
    /// Whether the mean is taken off advantages and they are divided by their deviation, over the tokens that are learnt from.
    #[serde(default)]
    whiten_advantages: bool,
    /// What rewards are divided by.
    #[serde(default)]
    reward_scaling: Scaling,
    /// Scaled rewards stay within plus and minus this.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    reward_clip: Option<f64>,
    /// What a nat of divergence from the reference costs; it is part of the reward.
    #[serde(default = "twentieth")]
    #[schemars(range(min = 0.0))]
    kl_coefficient: f64,
    /// How the divergence of a token is estimated.
    #[serde(default)]
    kl_estimator: Estimator,
    /// What the ratio to the policy that sampled is of.
    #[serde(default = "product")]
    ratio: Level,
    /// Ratios count between 1 less this and 1 and this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip: f64,
}

fn four() -> usize {
    4
}
fn one() -> f64 {
    1.0
}
fn fifth() -> f64 {
    0.2
}
fn twentieth() -> f64 {
    0.05
}
fn product() -> Level {
    Level::Product
}

impl CriticFree for Reinforce {
    const KIND: &'static str = "policy.reinforce";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Learn on-line from rewards by REINFORCE (RLOO, REINFORCE++).

RLOO is what it is by default. REINFORCE++ is `baseline: none`, `ratio: token`, `whiten_advantages: true` and one completion of \
each prompt; with `baseline: mean` and several completions it is its variant with a baseline. The curve is that of `policy.grpo`, \
with `kl_completion`, the mean of log π/π_ref of a completion.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "a completion is held against others of its prompt: `samples_per_prompt` is at least 2, or `baseline: none`",
            [param("samples_per_prompt").below(2), param("baseline").is(["leave_one_out", "mean"])],
        )]
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        Ok(How {
            training: &params.training,
            samples: params.samples_per_prompt,
            method: params.method(),
            held: params.kl_coefficient > 0.0,
        })
    }
}

impl Params {
    fn method(&self) -> Method {
        // Of whole completions the mean over them, of tokens the mean over all tokens.
        let loss = match self.ratio {
            Level::Product | Level::Sequence => SurrogateLoss::Grpo,
            Level::Token => SurrogateLoss::Dapo,
        };
        let surrogate =
            Surrogate { level: self.ratio, ..Surrogate::clipped(loss, self.clip, self.clip) };
        let credit = match self.baseline {
            Baseline::LeaveOneOut => Credit::Rows(vec![Term::LeaveOneOut]),
            Baseline::Mean => Credit::Rows(vec![Term::GroupMean]),
            Baseline::None => Credit::ToGo { gamma: self.gamma, baseline: 0.0 },
        };
        Method {
            shaping: Shaping {
                scaling: self.reward_scaling,
                clip: self.reward_clip,
                estimator: self.kl_estimator,
                kl: self.kl_coefficient,
                target: None,
            },
            whiten: self.whiten_advantages,
            ..self.training.method(credit, surrogate)
        }
    }
}
