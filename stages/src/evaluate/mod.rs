//! How good a policy is, and how it compares with others.

mod candidate;
pub(crate) mod claim;
pub(crate) mod compare;
mod curve;
mod divergence;
mod evaluation;
mod frontier;
mod label;
mod measured;
pub(crate) mod policy;
mod replicates;
mod report;
mod samples;
mod win_rate;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<claim::Claim>(),
    AnyStage::of::<compare::Compare>(),
    AnyStage::of::<policy::EvaluatePolicy>(),
];
