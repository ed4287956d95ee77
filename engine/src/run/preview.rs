//! What would happen, without anything happening.

use gradus_cache::{Action, CacheError};

use super::{Session, resolve};
use crate::{
    event::Metrics,
    plan::{Plan, Stage},
};

/// What is known about one stage before a run.
#[derive(Debug)]
pub struct Preview {
    /// Index into [`Plan::stages`].
    pub stage: usize,
    pub state: State,
    pub action: Option<Action>,
}

/// What a run would do with a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Cached,
    /// With what changed since the stage last ran; empty if it never did.
    WouldRun(Vec<String>),
    /// It depends on what stages before it put out.
    Unknown,
}

impl Preview {
    pub fn metrics(&self) -> Metrics {
        self.action.as_ref().map(resolve::metrics_of).unwrap_or_default()
    }
}

impl Session {
    /// Looks at `selected` stages in order.
    pub fn preview(&self, plan: &Plan, selected: &[usize]) -> Result<Vec<Preview>, CacheError> {
        let mut actions: Vec<Option<Action>> = vec![None; plan.stages.len()];
        let mut previews = Vec::new();
        for &index in selected {
            let stage = &plan.stages[index];
            let device = &self.devices.class;
            let resolved = resolve::resolve(&self.cache, plan, stage, &actions, device)?;
            let (outlook, action) = match resolved {
                None => (State::Unknown, None),
                Some(resolved) => {
                    let forced = self.forces(stage);
                    match resolve::recall(&self.cache, &resolved.fingerprint)? {
                        Some(action) if !forced => (State::Cached, Some(action)),
                        _ if forced => (State::WouldRun(vec!["forced".to_owned()]), None),
                        _ => {
                            let table = &resolved.table;
                            let reasons = resolve::reasons(&self.cache, plan, stage, table);
                            (State::WouldRun(reasons), None)
                        }
                    }
                }
            };
            actions[index].clone_from(&action);
            previews.push(Preview { stage: index, state: outlook, action });
        }
        Ok(previews)
    }

    /// Whether this stage is to run although it is cached.
    pub(super) fn forces(&self, stage: &Stage) -> bool {
        let targets = &self.settings.targets;
        let named =
            targets.is_empty() || targets.contains(&stage.id) || targets.contains(&stage.spec);
        self.settings.force && named
    }
}
