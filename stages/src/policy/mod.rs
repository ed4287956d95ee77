//! Learning a policy from preferences.

pub(crate) mod dpo;
mod log_probs;
pub(crate) mod losses;
mod reference;
pub(crate) mod sequences;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<dpo::TrainDpo>(), AnyStage::of::<reference::Reference>()];
