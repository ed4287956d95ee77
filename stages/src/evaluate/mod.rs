//! How good a policy is, and how it compares with others.

pub(crate) mod compare;
mod plot;
pub(crate) mod policy;
mod samples;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] =
    &[AnyStage::of::<compare::Compare>(), AnyStage::of::<policy::EvaluatePolicy>()];
