//! What rollouts are worth: sources that give them numbers by name, and an expression over these.

pub(crate) mod answers;
pub(crate) mod contest;
pub(crate) mod expression;
pub(crate) mod judge;
pub(crate) mod judges;
pub(crate) mod model;
mod program;
mod source;
pub(crate) mod sources;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<answers::Answers>(), AnyStage::of::<judge::Judge>()];
