//! One file per command: a struct of its words and an `exec` that joins the engine to the terminal.

mod check;
mod common;
mod completions;
mod diff;
mod doctor;
mod explain;
mod export;
mod graph;
mod lineage;
mod logs;
mod pin;
mod plan;
mod run;
mod runs;
mod show;
mod stages;
mod sweep;
mod watch;

pub(crate) use check::Check;
pub(crate) use completions::Completions;
pub(crate) use diff::Diff;
pub(crate) use doctor::Doctor;
pub(crate) use explain::Explain;
pub(crate) use export::Export;
pub(crate) use graph::Graph;
pub(crate) use lineage::Lineage;
pub(crate) use logs::Logs;
pub(crate) use pin::Pin;
pub(crate) use plan::Plan;
pub(crate) use run::Run;
pub(crate) use runs::Runs;
pub(crate) use show::Show;
pub(crate) use stages::Stages;
pub(crate) use sweep::Sweep;
pub(crate) use watch::Watch;
