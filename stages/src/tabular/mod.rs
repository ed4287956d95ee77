//! Learning from feedback where all states can be counted, so that what is learnt is known exactly.

mod circle;
mod lock;
mod nash;
mod npg;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<nash::Nash>(), AnyStage::of::<npg::NaturalPolicyGradient>()];
