//! What the cache has of a run's stages.

use std::sync::Arc;

use gradus_cache::Action;
use tokio::sync::watch;

use super::{
    blocking::blocking,
    resolve::{self, Actions, Resolved},
    shared::Shared,
};
use crate::{error::RunError, event::Event, plan::Stage, run::process::stop::Stop};

/// Events of cached stages that are told at once.
const BURST: usize = 500;

/// What there is to tell of a stage that was found in the cache, or fetched into it.
pub(crate) fn cached(stage: &Stage, action: &Action, remote: bool) -> Event {
    let metrics = resolve::metrics_of(action);
    Event::Cached {
        advice: stage.kind.advice_on(&stage.params, &metrics),
        stage: stage.id.clone(),
        fingerprint: action.fingerprint,
        outputs: action.outputs.clone(),
        metrics,
        remote,
    }
}

/// Recalls in one go those of `selected` that are cached, and whose inputs are: all of them, mostly. What
/// is not found, or cannot be looked at, is left to be carried out one by one. Says by stage what was found.
pub(crate) fn recall_all(
    shared: &Shared,
    selected: &[usize],
    stop: &watch::Receiver<Stop>,
) -> Actions {
    let (cache, plan) = (&shared.session.cache, &shared.plan);
    let settled = cache.index().settled(&plan.key());
    let mut now = settled.clone();
    let mut actions = Actions::new();
    let mut events = Vec::new();
    for &index in selected {
        let stage = &shared.plan.stages[index];
        if *stop.borrow() != Stop::No || shared.session.runs_anyway(stage) {
            continue;
        }
        let found = resolve::resolve(&shared.session, plan, stage, &actions);
        let Ok(Some(resolved)) = found else { continue };
        let Ok(Some(action)) = cache.recall(&resolved.fingerprint) else { continue };
        if settled.get(&stage.id) != Some(&resolved.fingerprint) {
            resolve::remember(cache, plan, stage, &resolved);
            now.insert(stage.id.clone(), resolved.fingerprint);
        }
        events.push(cached(stage, &action, false));
        actions.insert(index, Arc::new(action));
        // One by one they would wake the listener as often.
        if events.len() == BURST {
            shared.send_all(&mut events);
        }
    }
    shared.send_all(&mut events);
    // Only if nothing is to run that will be noted.
    if actions.len() == selected.len() && now != settled {
        cache.index().settle(&plan.key(), &now);
    }
    actions
}

pub(crate) async fn recall(
    shared: &Arc<Shared>,
    resolved: &Resolved,
) -> Result<Option<Action>, RunError> {
    let (cache, fingerprint) = (shared.session.cache.clone(), resolved.fingerprint);
    blocking(move || Ok(cache.recall(&fingerprint)?)).await
}
