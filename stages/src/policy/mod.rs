//! Learning a policy from feedback: from preferences, and on-line from rewards of what it does.

pub(crate) mod advantages;
mod canon;
mod conditional;
mod cpl;
pub(crate) mod cpo;
pub(crate) mod credit;
pub(crate) mod critic;
mod critic_free;
pub(crate) mod distill;
pub(crate) mod dpo;
mod empg;
mod grpo;
mod inpo;
pub(crate) mod kto;
mod log_probs;
pub(crate) mod losses;
mod method;
pub(crate) mod modulation;
mod nash_md;
mod negative_aware;
mod nft;
mod online;
mod online_dpo;
pub(crate) mod orpo;
mod p3o;
pub(crate) mod pairs;
mod pairwise;
mod players;
mod ppo;
mod reference;
pub(crate) mod reference_free;
mod reinforce;
mod resets;
mod rival;
mod rollouts;
pub(crate) mod sequences;
pub(crate) mod shaping;
pub(crate) mod simpo;
pub(crate) mod surrogate;
mod training;
pub(crate) mod xpo;

use self::reference_free::Direct;
use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<canon::Canon>(),
    AnyStage::of::<Direct<cpl::Cpl>>(),
    AnyStage::of::<Direct<cpo::Cpo>>(),
    AnyStage::of::<distill::Distill>(),
    AnyStage::of::<dpo::TrainDpo>(),
    AnyStage::of::<empg::Empg>(),
    AnyStage::of::<grpo::Grpo>(),
    AnyStage::of::<inpo::Inpo>(),
    AnyStage::of::<kto::Kto>(),
    AnyStage::of::<nash_md::NashMd>(),
    AnyStage::of::<nft::Nft>(),
    AnyStage::of::<online_dpo::OnLineDpo>(),
    AnyStage::of::<Direct<orpo::Orpo>>(),
    AnyStage::of::<p3o::P3o>(),
    AnyStage::of::<ppo::Ppo>(),
    AnyStage::of::<reference::Reference>(),
    AnyStage::of::<reinforce::Reinforce>(),
    AnyStage::of::<Direct<simpo::Simpo>>(),
    AnyStage::of::<xpo::Xpo>(),
];
