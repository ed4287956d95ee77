//! Processes that compute: workers and programs, what they need of this machine, and what ends with them.

pub(super) mod devices;
pub(super) mod frames;
pub(super) mod guard;
pub(super) mod launch;
pub(super) mod libtorch;
pub(super) mod log;
pub(super) mod measured;
pub(super) mod program;
mod rows;
pub(super) mod secret;
pub(super) mod stop;
pub(super) mod worker;
