//! The look at a person's own files, before anything runs.

use gradus_engine::{
    plan::Plan,
    run::{Looked, RunError, Session},
};

use super::runtime::in_runtime;
use crate::failure::Failure;

/// Those of `stages` that read files of a person's own which the worker knows.
pub(super) fn that_read_files(session: &Session, plan: &Plan, stages: &[usize]) -> Vec<usize> {
    let can_look = |index: &usize| session.can_look(&plan.stages[*index]);
    stages.iter().copied().filter(can_look).collect()
}

/// What is wrong with the files that `stages` read, and what is known of them. An error of its own if nobody could look.
pub(super) fn look(
    session: &Session,
    plan: &Plan,
    stages: &[usize],
) -> Result<Result<Looked, RunError>, Failure> {
    in_runtime(async |_| Ok(session.look_at_files(plan, stages).await))
}
