//! Learning from examples: what comes before any feedback.

mod held_out;
pub(crate) mod pretrain;
mod scored;
pub(crate) mod sft;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<pretrain::Pretrain>(), AnyStage::of::<sft::Sft>()];
