//! Models of what people prefer.

pub(crate) mod comparisons;
pub(crate) mod pointwise;
pub(crate) mod preference_model;
pub(crate) mod reward_model;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<pointwise::Pointwise>(),
    AnyStage::of::<preference_model::TrainPreferenceModel>(),
    AnyStage::of::<reward_model::TrainRewardModel>(),
];
