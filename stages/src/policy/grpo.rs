//! `policy.grpo`: group relative policy optimisation (Shao et al. 2024, "`DeepSeekMath`", section 4.1) and its relatives.
//!
//! A completion is better or worse than others of the same prompt, so no critic is needed. Relatives differ in how they
//! normalise advantages and losses, and in how they clip.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    modulation::Modulation,
    surrogate::{Level, Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Group relative policy optimisation.
pub(crate) struct Grpo;

/// What the advantage of a completion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Advantage {
    /// Less the mean of its group, divided by the deviation in its group.
    Group,
    /// Less the mean of its group, divided by the deviation of all rewards.
    Batch,
    /// Less the mean of its group (Dr. GRPO).
    Mean,
    /// Less the mean of the others in its group (RLOO).
    LeaveOneOut,
}

impl Advantage {
    fn terms(self) -> Vec<Term> {
        match self {
            Self::Group => vec![Term::GroupMean, Term::GroupDeviation],
            Self::Batch => vec![Term::GroupMean, Term::BatchDeviation],
            Self::Mean => vec![Term::GroupMean],
            Self::LeaveOneOut => vec![Term::LeaveOneOut],
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt: the group.
    #[serde(default = "eight")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// What the advantage of a completion is.
    #[serde(default = "by_group")]
    advantage: Advantage,
    /// What a token loses, and what losses are divided by.
    #[serde(default = "grpo")]
    loss: SurrogateLoss,
    /// What the ratio to the policy that sampled is of; `sequence` makes it GSPO.
    #[serde(default)]
    ratio: Level,
    /// Ratios count down to 1 less this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_low: f64,
    /// Ratios count up to 1 and this; with `loss: cispo` up to this itself.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_high: f64,
    /// The most that a ratio counts where it is not clipped, that of a bad completion that has become likely say.
    #[serde(default)]
    most_ratio: Option<f64>,
    /// How strongly the policy is held to the reference, by the KL divergence (k3) at every token.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    beta: f64,
    /// Whether the KL divergence is weighed by the ratio: then it is that of the policy as it is now, where several steps are
    /// taken on what it sampled before.
    #[serde(default)]
    corrected_kl: bool,
    /// Bad completions that have become less likely than when they were sampled by more than this, in nats a token, teach nothing
    /// more: they are too far from what the policy would say now.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    most_gap: Option<f64>,
    /// Only the tokens at which the policy was the least sure are learnt from: this share of all, 0.2 say (Wang et al. 2025,
    /// "Beyond the 80/20 Rule"). Losses are divided as if all were.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    entropic_share: Option<f64>,
}

fn eight() -> usize {
    8
}
fn fifth() -> f64 {
    0.2
}
fn by_group() -> Advantage {
    Advantage::Group
}
fn grpo() -> SurrogateLoss {
    SurrogateLoss::Grpo
}

impl CriticFree for Grpo {
    const KIND: &'static str = "policy.grpo";
    const REVISION: u32 = 3;
    const DOC: &'static str = "Learn on-line from rewards of groups of completions (GRPO and relatives).

An iteration samples from the policy itself, judges as `reward.judge` does, and takes its steps. Dr. GRPO is \
`advantage: mean` with `loss: dr_grpo`; DAPO `loss: dapo` with `clip_high: 0.28`; GSPO `ratio: sequence` with `clip_low: \
0.0003`, `clip_high: 0.0004`; CISPO `loss: cispo` with `clip_high: 5`; LUSPO `loss: luspo` with `ratio: sequence`; VESPO `loss: vespo`. \
The curve has the mean `reward` and each of its parts, `tokens` and `ended` of completions, `entropy` and `kl` per token, the \
shares of tokens whose gradient the clip stopped, `groups_alike`, the share of groups that teach nothing, and \
`sampler_gap`, by how much sampler and trainer differ in a log-probability before the first step. All of them are of what was \
sampled before any `filter`. The summary has their means over the last tenth of the iterations.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "`cispo` counts ratios up to `clip_high` itself, so 1 is the least that makes sense",
            [param("loss").is(["cispo"]), param("clip_high").below(1)],
        )]
    }

    fn advice() -> Vec<Rule> {
        vec![
            rule(
                "in {groups_alike} of the groups all rewards were alike, and taught nothing: take harder or easier prompts, or \
             more samples of each",
                [param("groups_alike").above(0.7)],
            ),
            rule(
                "the policy is {kl} nats a token from its reference, and running away: raise `beta`, or lower `learning_rate`",
                [param("kl").above(1)],
            ),
        ]
    }

    fn how(params: &Params) -> Result<How<'_>, StageError> {
        Ok(How {
            training: &params.training,
            samples: params.samples_per_prompt,
            method: params.method(),
            held: params.beta > 0.0,
        })
    }
}

impl Params {
    fn method(&self) -> Method {
        let surrogate = Surrogate {
            loss: self.loss,
            level: self.ratio,
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            most: self.most_ratio,
            beta: self.beta,
            corrected: self.corrected_kl,
            most_gap: self.most_gap,
        };
        Method {
            modulation: self.entropic_share.map(|share| Modulation::MostEntropic { share }),
            ..self.training.method(Credit::Rows(self.advantage.terms()), surrogate)
        }
    }
}
