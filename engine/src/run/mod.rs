//! The plan carried out: what is cached is recalled, the rest runs in workers and is committed.
//!
//! Three rooms: [`process`] starts what computes, [`execution`] carries a plan out, and [`answers`] says what a
//! person asks before and afterwards. [`Session::preview`] says what would run; [`Session::run`] does it and reports
//! by [`Event`](crate::event::Event).

mod answers;
mod asked;
mod execution;
mod history;
mod made;
mod process;
mod session;

pub use answers::{
    compare::{Comparison, MetricPair, OutputPair, StageComparison},
    curves::{Points, curves},
    estimate::Estimate,
    explain::Explanation,
    lineage::{Ancestor, Found, Lineage, Source},
    look::Looked,
    outputs::{FinalOutput, final_outputs},
    preview::{Preview, State},
    share::{Moved, push_all},
    snapshot::{Checked, NumberOff, Verdict, check as check_snapshots, orphans},
    suspects::verify,
    sweep::{is_pinned, pin, sweep},
    table::{Cell, Picked, Table, table, table_of},
    watched::Watched,
};
pub use asked::Asked;
pub use history::{History, RunRecord, StageRecord, Status};
pub use made::{Commit, Made, local_time};
pub use process::{
    devices::{Devices, THREADS, detect_gpus},
    launch::{Toolchain, find_worker},
    libtorch::{Libtorch, find_libtorch},
    stop::Stop,
};
pub use session::{CheckpointSettings, Session, Settings};

pub use crate::error::RunError;
