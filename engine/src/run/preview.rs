//! What would happen, without anything happening.

use std::sync::Arc;

use gradus_cache::{Action, CacheError, Fingerprint};

use super::{
    Session,
    resolve::{self, Actions, Resolved},
};
use crate::{
    event::{Metrics, Why},
    plan::{Plan, Stage},
};

/// What is known about one stage before a run.
#[derive(Debug)]
pub struct Preview {
    /// Index into [`Plan::stages`].
    pub stage: usize,
    pub state: State,
    pub action: Option<Arc<Action>>,
}

/// What a run would do with a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Cached,
    WouldRun(Why),
    /// It depends on what stages before it put out.
    Unknown,
}

impl Preview {
    pub fn metrics(&self) -> Metrics {
        self.action.as_deref().map(resolve::metrics_of).unwrap_or_default()
    }
}

impl Session {
    /// Looks at `selected` stages in order.
    pub fn preview(&self, plan: &Plan, selected: &[usize]) -> Result<Vec<Preview>, CacheError> {
        let mut actions = Actions::new();
        let mut previews = Vec::new();
        for &index in selected {
            let stage = &plan.stages[index];
            let (outlook, action) = match resolve::resolve(self, plan, stage, &actions)? {
                None => (State::Unknown, None),
                Some(resolved) => self.outlook(plan, stage, &resolved)?,
            };
            actions.extend(action.clone().map(|action| (index, action)));
            previews.push(Preview { stage: index, state: outlook, action });
        }
        Ok(previews)
    }

    /// What a run would do with a stage of which all is known.
    pub(super) fn outlook(
        &self,
        plan: &Plan,
        stage: &Stage,
        resolved: &Resolved,
    ) -> Result<(State, Option<Arc<Action>>), CacheError> {
        let forced = self.forces(stage);
        if !self.runs_anyway(stage)
            && let Some(action) = self.cache.recall(&resolved.fingerprint)?
        {
            return Ok((State::Cached, Some(Arc::new(action))));
        }
        Ok((State::WouldRun(resolve::why(self, plan, stage, resolved, forced)?), None))
    }

    /// Whether this stage runs although it may be cached: it is forced, or says `cache: false`.
    pub(super) fn runs_anyway(&self, stage: &Stage) -> bool {
        stage.conduct.always || self.forces(stage)
    }

    /// Whether this stage is to begin with nothing of what it did before. One that says `cache: false`
    /// goes on from where it was broken off, but not from its own end.
    pub(super) fn begins_anew(
        &self,
        stage: &Stage,
        fingerprint: &Fingerprint,
    ) -> Result<bool, CacheError> {
        let done = || Ok(self.cache.action(fingerprint)?.is_some());
        Ok(self.forces(stage) || (stage.conduct.always && done()?))
    }

    /// Whether this stage is to run although it is cached.
    pub(super) fn forces(&self, stage: &Stage) -> bool {
        let targets = &self.settings.targets;
        let named =
            targets.is_empty() || targets.contains(&stage.id) || targets.contains(&stage.spec);
        self.settings.force && named
    }
}
