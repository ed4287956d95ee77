//! The page of `evaluate.report`: a section per sort of result, each escaped by what writes it.

pub(super) mod attached;
pub(super) mod claims;
pub(super) mod curves;
pub(super) mod document;
pub(super) mod policies;
pub(super) mod samples;
