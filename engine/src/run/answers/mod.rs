//! What a person asks: what would run and why, and what came of runs.

pub(super) mod compare;
pub(super) mod curves;
pub(super) mod estimate;
pub(super) mod explain;
pub(super) mod lineage;
pub(super) mod look;
pub(super) mod outputs;
pub(super) mod preview;
pub(super) mod share;
pub(super) mod snapshot;
pub(super) mod suspects;
pub(super) mod sweep;
pub(super) mod table;
pub(super) mod watched;
