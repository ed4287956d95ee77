//! `policy.p3o`: pairwise proximal policy optimisation (Wu et al. 2023, "Pairwise Proximal Policy Optimization: Harnessing
//! Relative Feedback for LLM Alignment").
//!
//! A reward model that learnt from comparisons is defined up to what a prompt adds to all its answers. So the policy learns from
//! the difference of two answers' rewards alone: it needs no critic, and the shift cannot reach it.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    advantages::Term,
    credit::Credit,
    critic_free::{CriticFree, How},
    method::Method,
    pairwise::{Clipped, Pairwise, whole_pairs},
    shaping::{Scaling, Shaping},
    training::OnLineTraining,
};
use crate::error::StageError;

/// Pairwise proximal policy optimisation.
pub(crate) struct P3o;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt; the first is compared with the second, the third with the fourth.
    #[serde(default = "two")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// What is kept from going too far.
    #[serde(default)]
    clipped: Clipped,
    /// How far: ratios count between 1 less this and 1 and this, differences change by this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip: f64,
    /// Ratios that are weights count between this and its inverse.
    #[serde(default = "ten")]
    #[schemars(range(min = 1.0))]
    most_weight: f64,
    /// What a nat of divergence from the reference costs; part of the difference that is learnt from.
    #[serde(default = "twentieth")]
    #[schemars(range(min = 0.0))]
    beta: f64,
    /// Whether differences are divided by their deviation in the iteration.
    #[serde(default)]
    scale_differences: bool,
    /// What rewards are divided by before they are compared. All but `none` lets what a prompt adds to its answers back in.
    #[serde(default)]
    reward_scaling: Scaling,
}

fn two() -> usize {
    2
}
fn fifth() -> f64 {
    0.2
}
fn ten() -> f64 {
    10.0
}
fn twentieth() -> f64 {
    0.05
}

impl CriticFree for P3o {
    const KIND: &'static str = "policy.p3o";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Learn on-line from which of two completions has the higher reward, and by how much (P3O).

P3O-V1 is `clipped: each`, P3O-V2 `clipped: difference`. What a prompt adds to the rewards of all its completions changes \
nothing. The curve is that of `policy.grpo`, with `kl_completion`, the mean of log π/π_ref of a completion, and `clipped`, the \
share of what went further than `clip`.";
    type Params = Params;

    fn rules() -> Vec<Rule> {
        whole_pairs()
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
        // Less the other of its pair; over both the mean is zero, so whitening divides and no more.
        let mut terms = vec![Term::LeaveOneOut];
        if self.scale_differences {
            terms.push(Term::Whiten);
        }
        let loss = Pairwise {
            clipped: self.clipped,
            clip: self.clip,
            most_weight: self.most_weight,
            beta: self.beta,
        };
        Method {
            shaping: Shaping { scaling: self.reward_scaling, ..Shaping::NONE },
            ..self.training.method(Credit::Rows(terms), loss)
        }
    }
}
