//! The command line as people see it: the real program in throw-away projects.
#![expect(clippy::unwrap_used, reason = "test code")]

#[path = "../support/mod.rs"]
mod support;

mod about;
mod architecture;
mod cache;
mod cancel;
mod check;
mod compose;
mod conduct;
mod explain;
mod export;
mod extend;
mod failure;
mod faults;
mod graph;
mod hostile;
mod imports;
mod ledger;
mod lineage;
mod orphans;
mod plan;
mod plugin;
mod programs;
mod remote;
mod resources;
mod results;
mod rounds;
mod run;
mod runs;
mod schema;
mod secret;
mod shared;
mod show;
mod sweep;
mod terminal;
mod test;
mod watch;
mod when;
mod worker;
