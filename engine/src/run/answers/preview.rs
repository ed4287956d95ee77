//! What would happen, without anything happening.

use std::{collections::HashMap, sync::Arc};

use gradus_cache::{Action, CacheError, Fingerprint};
use gradus_remote::Fetched;

use super::share::in_words;
use crate::{
    event::{Metrics, Why},
    plan::{Plan, Stage},
    run::{
        execution::resolve::{self, Actions, Resolved},
        made::Made,
        session::{Session, Settings},
    },
};

/// What is known about one stage before a run.
#[derive(Debug)]
pub struct Preview {
    /// Index into [`Plan::stages`].
    pub stage: usize,
    pub state: State,
    pub action: Option<Arc<Action>>,
    /// Of a frozen stage: why it would run if it were not.
    pub frozen: Option<Vec<String>>,
}

/// What a run would do with a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Cached,
    /// It would be fetched.
    Remote,
    WouldRun(Why),
    /// It depends on what stages before it put out.
    Unknown,
}

/// What is known so far.
#[derive(Default)]
struct Look {
    known: HashMap<usize, Preview>,
    actions: Actions,
    /// What the remote said.
    asked: HashMap<Fingerprint, Fetched>,
    warnings: Vec<String>,
}

impl Preview {
    pub fn metrics(&self) -> Metrics {
        self.action.as_deref().map(resolve::metrics_of).unwrap_or_default()
    }
}

impl Session {
    /// Looks at `selected` stages in order. Of what is not here the remote is asked; the warnings say what
    /// it could not answer.
    pub fn preview(
        &self,
        plan: &Plan,
        selected: &[usize],
    ) -> Result<(Vec<Preview>, Vec<String>), CacheError> {
        let mut look = Look::default();
        loop {
            let wanted = self.look(plan, selected, &mut look)?;
            let Some(remote) = self.remote.as_ref().filter(|_| !wanted.is_empty()) else { break };
            look.asked.extend(remote.look(&wanted));
        }
        let unknown =
            |&stage: &usize| Preview { stage, state: State::Unknown, action: None, frozen: None };
        let previews =
            selected.iter().map(|index| look.known.remove(index).unwrap_or_else(|| unknown(index)));
        Ok((previews.collect(), look.warnings))
    }

    /// As [`Session::preview`], without the remote, and with what stages that always run made last.
    pub fn preview_here(
        &self,
        plan: &Plan,
        selected: &[usize],
    ) -> Result<Vec<Preview>, CacheError> {
        let settings = Settings { looks_back: true, ..self.settings.clone() };
        let here = Self { remote: None, settings, ..self.clone() };
        here.preview(plan, selected).map(|(previews, _)| previews)
    }

    /// Looks at all stages of which enough is known by now. Returns what the remote is to be asked.
    fn look(
        &self,
        plan: &Plan,
        selected: &[usize],
        look: &mut Look,
    ) -> Result<Vec<Fingerprint>, CacheError> {
        let mut wanted = Vec::new();
        for &index in selected {
            let stage = &plan.stages[index];
            if look.known.contains_key(&index) {
                continue;
            }
            let Some(resolved) = resolve::resolve(self, plan, stage, &look.actions)? else {
                continue;
            };
            let fingerprint = resolved.fingerprint;
            let (mut outlook, mut action) = self.outlook(plan, stage, &resolved)?;
            if self.remote.is_some() && action.is_none() && !self.runs_anyway(stage) {
                let Some(answer) = look.asked.get_mut(&fingerprint) else {
                    wanted.push(fingerprint);
                    continue;
                };
                let warning = answer.warning.take().map(|it| in_words(it, &stage.id));
                look.warnings.extend(warning);
                if let Some(found) = &answer.action {
                    (outlook, action) = (State::Remote, Some(Arc::new(found.clone())));
                }
            }
            look.actions.extend(action.clone().map(|action| (index, action)));
            let frozen = stage.conduct.frozen.and_then(|_| {
                let made = Made::of(action.as_deref()?)?;
                Some(resolved.facts.changes_since(&made.facts))
            });
            look.known.insert(index, Preview { stage: index, state: outlook, action, frozen });
        }
        Ok(wanted)
    }

    /// What a run would do with a stage of which all is known.
    pub(crate) fn outlook(
        &self,
        plan: &Plan,
        stage: &Stage,
        resolved: &Resolved,
    ) -> Result<(State, Option<Arc<Action>>), CacheError> {
        if !self.runs_anyway(stage)
            && let Some(action) = self.cache.recall(&resolved.fingerprint)?
        {
            return Ok((State::Cached, Some(Arc::new(action))));
        }
        let anew = self.begins_anew(stage, &resolved.fingerprint)?;
        Ok((State::WouldRun(resolve::why(self, plan, stage, resolved, anew)?), None))
    }
}
