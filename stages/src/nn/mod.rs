//! Tensor code that two families need: the decoder, its files, log-probabilities, sampling, Adam and
//! the training loop.

pub(crate) mod adamw;
mod attention;
pub(crate) mod batch;
pub(crate) mod batches;
pub(crate) mod beam;
pub(crate) mod bootstrap;
mod branches;
mod cache;
pub(crate) mod checkpoint;
pub(crate) mod conditioning;
pub(crate) mod config;
#[cfg(test)]
mod coverage;
pub(crate) mod curve;
pub(crate) mod decoder;
pub(crate) mod discrimination;
pub(crate) mod distinct;
pub(crate) mod game;
pub(crate) mod generate;
pub(crate) mod head;
pub(crate) mod header;
pub(crate) mod kept;
pub(crate) mod learner;
pub(crate) mod likelihood;
pub(crate) mod logprob;
pub(crate) mod model_folder;
#[cfg(test)]
mod plain;
pub(crate) mod pretrained;
pub(crate) mod ranking;
pub(crate) mod rope;
pub(crate) mod sampling;
pub(crate) mod schedule;
pub(crate) mod scores;
pub(crate) mod soft;
pub(crate) mod statistics;
pub(crate) mod steering;
pub(crate) mod stepper;
pub(crate) mod stream;
pub(crate) mod tensors;
pub(crate) mod trainer;
pub(crate) mod watch;
