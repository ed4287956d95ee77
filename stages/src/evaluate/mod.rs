//! How good a policy is, and how it compares with others.

pub(crate) mod best_of_n;
mod candidate;
pub(crate) mod claim;
pub(crate) mod compare;
pub(crate) mod correlation;
pub(crate) mod credit;
mod curve;
mod divergence;
pub(crate) mod diversity;
pub(crate) mod duality_gap;
mod evaluation;
mod frontier;
mod label;
mod length_control;
pub(crate) mod likelihood;
mod measured;
mod numbers;
pub(crate) mod over_optimisation;
mod overshoot;
mod page;
pub(crate) mod policy;
mod profile;
pub(crate) mod reliability;
pub(crate) mod replicates;
pub(crate) mod report;
mod rows;
mod samples;
mod side_by_side;
mod variety;
pub(crate) mod win_matrix;
mod win_rate;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<best_of_n::BestOfN>(),
    AnyStage::of::<claim::Claim>(),
    AnyStage::of::<compare::Compare>(),
    AnyStage::of::<correlation::Correlation>(),
    AnyStage::of::<credit::Credit>(),
    AnyStage::of::<diversity::Diversity>(),
    AnyStage::of::<duality_gap::DualityGap>(),
    AnyStage::of::<likelihood::Likelihood>(),
    AnyStage::of::<over_optimisation::OverOptimisation>(),
    AnyStage::of::<policy::EvaluatePolicy>(),
    AnyStage::of::<reliability::Reliability>(),
    AnyStage::of::<replicates::Replicates>(),
    AnyStage::of::<report::Report>(),
    AnyStage::of::<win_matrix::WinMatrix>(),
];
