//! How good a policy is, and how it compares with others.

pub(crate) mod compare;
mod plot;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[AnyStage::of::<compare::Compare>()];
