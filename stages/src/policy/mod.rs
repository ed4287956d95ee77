//! Learning a policy from feedback: from preferences, and on-line from rewards of what it does.

pub(crate) mod advantages;
pub(crate) mod credit;
pub(crate) mod critic;
pub(crate) mod dpo;
mod grpo;
mod log_probs;
pub(crate) mod losses;
mod online;
mod players;
mod ppo;
mod reference;
mod rollouts;
pub(crate) mod sequences;
pub(crate) mod shaping;
pub(crate) mod surrogate;
mod training;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<dpo::TrainDpo>(),
    AnyStage::of::<grpo::Grpo>(),
    AnyStage::of::<ppo::Ppo>(),
    AnyStage::of::<reference::Reference>(),
];
