//! Learning a policy from preferences.

pub(crate) mod dpo;
pub(crate) mod pairs;
