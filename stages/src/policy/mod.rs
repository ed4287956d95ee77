//! Learning a policy from preferences.

pub(crate) mod dpo;
mod log_probs;
pub(crate) mod losses;
pub(crate) mod pairs;
mod reference;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<dpo::TrainDpo>(), AnyStage::of::<reference::Reference>()];
