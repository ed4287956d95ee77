//! Reads, plans and runs Gradus pipelines.
//!
//! Three rooms, three types: [`spec::Pipeline`] (written) → [`plan::Plan`] (checked) → a stream of
//! [`event::Event`] (run). What got to the next room needs no second check. Nothing here prints.

pub mod error;
pub mod event;
pub mod plan;
pub mod plugin;
pub mod project;
pub mod run;
pub mod spec;
