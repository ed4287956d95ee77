//! Models of what people prefer.

pub(crate) mod reward_model;
