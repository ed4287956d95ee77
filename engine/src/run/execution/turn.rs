//! Whose turn it is to compute a fingerprint: of all runs on a cache, one at a time. Stages that go on from
//! each other's states are one work here.
//!
//! Whoever is not first waits without a slot, so that other stages may use it, and takes the result.

use std::{sync::Arc, time::Duration};

use gradus_cache::{Action, Claim, Fingerprint, Lease, Owner};
use gradus_remote::Warning;
use tokio::{sync::watch, time::sleep};

use super::{
    blocking::blocking, demands, recall::recall, resolve::Resolved, shared::Shared, slots::Slot,
};
use crate::{
    error::RunError,
    event::Event,
    plan::Stage,
    run::process::stop::{Stop, stopped},
};

const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_millis(500);

pub(crate) enum Turn {
    /// The cache has it, perhaps since another run put it there a moment ago.
    Cached(Action),
    /// The remote had it.
    Fetched(Action),
    /// The stage is to run on this slot, and nobody else runs it while the lease is held. True if it is to
    /// begin with nothing of what it did before.
    Ours(Slot, Lease, bool),
}

pub(crate) async fn turn(
    shared: &Arc<Shared>,
    stage: &Stage,
    resolved: &Resolved,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Turn, RunError> {
    let work = resolved.work;
    let anew = shared.session.runs_anyway(stage) && shared.first_time(resolved.fingerprint);
    let mut told = false;
    let mut asks = shared.session.remote.is_some() && !anew;
    loop {
        if !anew && let Some(action) = recall(shared, resolved).await? {
            return Ok(Turn::Cached(action));
        }
        if asks {
            // Under a lease, so that nobody fetches it beside us, but not on the work: who is at that may need
            // hours. And without a slot, for others to use.
            let fetched = resolved.fingerprint;
            match claim(shared, stage, fetched).await? {
                Claim::Held(_lease) => {
                    asks = false;
                    if let Some(action) = recall(shared, resolved).await? {
                        return Ok(Turn::Cached(action));
                    }
                    if let Some(action) = fetch(shared, stage, fetched, stop).await? {
                        return Ok(Turn::Fetched(action));
                    }
                }
                Claim::Busy(owner) => {
                    tell(shared, stage, &owner, &mut told);
                    until_free(shared, fetched, stop).await?;
                    continue;
                }
            }
        }
        if let Some(unmet) = demands::unmet(&shared.session, stage) {
            return Err(RunError::Stage(unmet));
        }
        let slot = tokio::select! {
            slot = shared.slot(stage) => slot?,
            () = stopped(stop) => return Err(RunError::Cancelled),
        };
        if *stop.borrow() != Stop::No || !shared.goes_on() {
            return Err(RunError::Cancelled);
        }
        let owner = match claim(shared, stage, work).await? {
            Claim::Held(lease) => {
                // Its last holder may have finished between our look and our claim.
                if !anew && let Some(action) = recall(shared, resolved).await? {
                    return Ok(Turn::Cached(action));
                }
                let anew = anew && shared.session.begins_anew(stage, &resolved.fingerprint)?;
                if anew && work == resolved.fingerprint {
                    // Only now: until we hold the lease it may be another run's state.
                    shared.session.cache.drop_checkpoints(&work)?;
                }
                return Ok(Turn::Ours(slot, lease, anew));
            }
            Claim::Busy(owner) => owner,
        };
        drop(slot);
        tell(shared, stage, &owner, &mut told);
        until_free(shared, work, stop).await?;
    }
}

/// Asks the remote; what it cannot do is said, and stops nothing.
async fn fetch(
    shared: &Arc<Shared>,
    stage: &Stage,
    fingerprint: Fingerprint,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Option<Action>, RunError> {
    let Some(remote) = shared.session.remote.clone() else { return Ok(None) };
    let cache = shared.session.cache.clone();
    let fetched = async {
        let _turn = shared.fetches.acquire().await.map_err(|_| RunError::Cancelled)?;
        blocking(move || Ok(remote.fetch(&cache, &fingerprint)?)).await
    };
    let fetched = tokio::select! {
        fetched = fetched => fetched?,
        () = stopped(stop) => return Err(RunError::Cancelled),
    };
    match fetched.warning {
        Some(Warning::Result(message)) => {
            shared.send(Event::Note { stage: Some(stage.id.clone()), message });
        }
        Some(Warning::Remote(message)) => shared.send(Event::Note { stage: None, message }),
        None => {}
    }
    Ok(fetched.action)
}

fn tell(shared: &Shared, stage: &Stage, owner: &Owner, told: &mut bool) {
    if !std::mem::replace(told, true) {
        shared.send(waiting(stage, owner));
    }
}

async fn claim(shared: &Arc<Shared>, stage: &Stage, work: Fingerprint) -> Result<Claim, RunError> {
    let (cache, run, stage) = (shared.session.cache.clone(), shared.run_id(), stage.id.clone());
    blocking(move || Ok(cache.claim(&work, &run, &stage)?)).await
}

/// Ends when the lease was given back or its owner died; an error when the run is to stop.
async fn until_free(
    shared: &Arc<Shared>,
    work: Fingerprint,
    stop: &mut watch::Receiver<Stop>,
) -> Result<(), RunError> {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(stop) => return Err(RunError::Cancelled),
        }
        if !shared.goes_on() {
            return Err(RunError::Cancelled);
        }
        let cache = shared.session.cache.clone();
        if blocking(move || Ok(cache.claimant(&work)?)).await?.is_none() {
            return Ok(());
        }
        pause = (pause * 2).min(LAST_LOOK);
    }
}

fn waiting(stage: &Stage, owner: &Owner) -> Event {
    let since = i64::try_from(owner.since).ok().and_then(|it| jiff::Timestamp::new(it, 0).ok());
    let since = since.map(|it| it.to_zoned(jiff::tz::TimeZone::system()));
    Event::Waiting {
        stage: stage.id.clone(),
        run: owner.run.clone(),
        host: owner.process.host.clone(),
        pid: owner.process.pid,
        since: since.map_or_else(String::new, |it| it.strftime("%Y-%m-%d %H:%M:%S").to_string()),
    }
}
