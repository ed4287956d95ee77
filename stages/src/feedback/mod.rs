//! Models of what people prefer.

pub(crate) mod reward_model;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[AnyStage::of::<reward_model::TrainRewardModel>()];
