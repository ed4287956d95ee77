//! Results from here to the remote and back, on request.

use std::sync::Arc;

use gradus_cache::{Action, Cache, CacheError, Count};
use gradus_remote::{PushError, Remote, Warning};
use serde::Serialize;

use crate::{
    plan::Plan,
    run::{
        execution::resolve::{self, Actions, Resolved},
        session::Session,
    },
};

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Moved {
    /// The results that are on both sides now and were not before.
    pub moved: usize,
    /// The results that were on both sides before.
    pub there: usize,
    /// The stages that the other side does not have, or that depend on such.
    pub missing: Vec<String>,
    /// The files that were sent, where they are counted.
    pub sent: Count,
    pub warnings: Vec<String>,
}

impl Session {
    /// Fetches what the remote has of `selected` stages and the cache has not.
    pub fn pull(
        &self,
        remote: &Remote,
        plan: &Plan,
        selected: &[usize],
    ) -> Result<Moved, CacheError> {
        let mut pulled = Moved::default();
        let mut actions = Actions::new();
        for &index in selected {
            let stage = &plan.stages[index];
            let action = match resolve::resolve(self, plan, stage, &actions)? {
                Some(resolved) => self.brought(remote, &resolved, &stage.id, &mut pulled)?,
                None => None,
            };
            match action {
                Some(action) => _ = actions.insert(index, Arc::new(action)),
                None => pulled.missing.push(stage.id.clone()),
            }
        }
        Ok(pulled)
    }

    fn brought(
        &self,
        remote: &Remote,
        resolved: &Resolved,
        stage: &str,
        pulled: &mut Moved,
    ) -> Result<Option<Action>, CacheError> {
        if let Some(action) = self.cache.recall(&resolved.fingerprint)? {
            pulled.there += 1;
            return Ok(Some(action));
        }
        let fetched = remote.fetch(&self.cache, &resolved.fingerprint)?;
        pulled.warnings.extend(fetched.warning.map(|it| in_words(it, stage)));
        pulled.moved += usize::from(fetched.action.is_some());
        Ok(fetched.action)
    }

    /// Uploads what the cache has of `selected` stages.
    pub fn push(
        &self,
        remote: &Remote,
        plan: &Plan,
        selected: &[usize],
    ) -> Result<Moved, PushError> {
        let mut pushed = Moved::default();
        for preview in self.preview_here(plan, selected)? {
            match preview.action {
                Some(action) => push(remote, &self.cache, &action, &mut pushed)?,
                None => pushed.missing.push(plan.stages[preview.stage].id.clone()),
            }
        }
        Ok(pushed)
    }
}

/// Uploads all that the cache has.
pub fn push_all(remote: &Remote, cache: &Cache) -> Result<Moved, PushError> {
    let mut pushed = Moved::default();
    for action in cache.actions()? {
        if cache.recall(&action.fingerprint)?.is_some() {
            push(remote, cache, &action, &mut pushed)?;
        }
    }
    Ok(pushed)
}

/// A warning, with the stage that it is about.
pub(crate) fn in_words(warning: Warning, stage: &str) -> String {
    match warning {
        Warning::Result(words) => format!("`{stage}`: {words}"),
        Warning::Remote(words) => words,
    }
}

fn push(
    remote: &Remote,
    cache: &Cache,
    action: &Action,
    pushed: &mut Moved,
) -> Result<(), PushError> {
    let done = remote.push(cache, &action.fingerprint)?;
    let count = if done.fresh { &mut pushed.moved } else { &mut pushed.there };
    *count += 1;
    pushed.sent.number += done.sent.number;
    pushed.sent.bytes += done.sent.bytes;
    Ok(())
}
