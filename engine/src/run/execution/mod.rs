//! A plan carried out: which stage when, from its fingerprint to its action.

pub(super) mod blocking;
pub(super) mod clock;
pub(super) mod demands;
pub(super) mod execute;
pub(super) mod job;
pub(super) mod recall;
pub(super) mod resolve;
pub(super) mod retry;
pub(super) mod schedule;
pub(super) mod seal;
pub(super) mod shared;
pub(super) mod slots;
pub(super) mod turn;
pub(super) mod uploads;
