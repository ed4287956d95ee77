//! Learning a policy from feedback: from preferences, and on-line from rewards of what it does.

pub(crate) mod advantages;
pub(crate) mod dpo;
mod grpo;
mod log_probs;
pub(crate) mod losses;
mod online;
mod reference;
pub(crate) mod sequences;
pub(crate) mod surrogate;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<dpo::TrainDpo>(),
    AnyStage::of::<grpo::Grpo>(),
    AnyStage::of::<reference::Reference>(),
];
