//! Where models come from.

pub(crate) mod average;
pub(crate) mod init;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<average::Average>(), AnyStage::of::<init::Init>()];
