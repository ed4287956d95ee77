//! Where models come from.

pub(crate) mod init;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[AnyStage::of::<init::Init>()];
