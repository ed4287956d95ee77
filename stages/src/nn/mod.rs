//! Tensor code that two families need: the decoder, its files, log-probabilities, sampling, Adam and
//! the training loop.

pub(crate) mod adamw;
pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod config;
pub(crate) mod generate;
mod header;
pub(crate) mod llama;
pub(crate) mod logprob;
#[cfg(test)]
mod plain;
pub(crate) mod random;
pub(crate) mod resume;
pub(crate) mod rope;
pub(crate) mod sampling;
pub(crate) mod schedule;
pub(crate) mod statistics;
pub(crate) mod trainer;
