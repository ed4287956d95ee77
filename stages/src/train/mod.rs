//! Learning from examples: what comes before any feedback.

pub(crate) mod likelihood;
