//! What policies did: sampling, the table of trajectories, and choosing among them.
//!
//! Everything that samples does it by [`sampler`], so what is evaluated is what was trained.

pub(crate) mod asked;
pub(crate) mod conversation;
pub(crate) mod decoding;
pub(crate) mod filter;
pub(crate) mod filtering;
pub(crate) mod pairs;
pub(crate) mod sample;
pub(crate) mod sampler;
mod steered;
pub(crate) mod trajectories;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<filter::Filter>(),
    AnyStage::of::<pairs::Pairs>(),
    AnyStage::of::<sample::Sample>(),
];
