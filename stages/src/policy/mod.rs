//! Learning a policy from feedback: from preferences, and on-line from rewards of what it does.

pub(crate) mod advantages;
mod canon;
mod conditional;
pub(crate) mod credit;
pub(crate) mod critic;
mod critic_free;
pub(crate) mod dpo;
mod empg;
mod grpo;
mod log_probs;
pub(crate) mod losses;
mod method;
pub(crate) mod modulation;
mod negative_aware;
mod nft;
mod online;
mod p3o;
mod pairwise;
mod players;
mod ppo;
mod reference;
mod reinforce;
mod resets;
mod rollouts;
pub(crate) mod sequences;
pub(crate) mod shaping;
pub(crate) mod surrogate;
mod training;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<canon::Canon>(),
    AnyStage::of::<dpo::TrainDpo>(),
    AnyStage::of::<empg::Empg>(),
    AnyStage::of::<grpo::Grpo>(),
    AnyStage::of::<nft::Nft>(),
    AnyStage::of::<p3o::P3o>(),
    AnyStage::of::<ppo::Ppo>(),
    AnyStage::of::<reference::Reference>(),
    AnyStage::of::<reinforce::Reinforce>(),
];
