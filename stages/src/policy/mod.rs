//! Learning a policy from preferences.

pub(crate) mod dpo;
pub(crate) mod losses;
pub(crate) mod pairs;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[AnyStage::of::<dpo::TrainDpo>()];
