//! Which stage runs when: as soon as its inputs are there and a slot is free.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinSet,
};

use super::{
    blocking::blocking,
    demands,
    execute::{Ended, execute},
    recall::recall_all,
    resolve::Actions,
    shared::Shared,
};
use crate::{
    error::RunError,
    event::{Event, Outcome, StageName},
    plan::{Plan, readers, shorter},
    run::{
        asked::Asked,
        history::{History, RunRecord},
        process::stop::Stop,
        session::Session,
    },
};

/// So often a stage is tried again when its inputs are taken away under its hands.
const MOST_RETRIES: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Running,
    Done,
    /// Failed or skipped: nothing comes from it.
    Lost,
}

impl Fate {
    /// Whether something may still come of the stage.
    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

struct Counts {
    ran: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
    /// A stage failed through no fault of its own.
    broken: bool,
}

impl Session {
    /// Carries out `selected` stages of `plan`. How it went is in the events and in the record that is
    /// returned; an error is gradus' own.
    pub async fn run(
        &self,
        plan: Arc<Plan>,
        file: &Path,
        selected: &[usize],
        events: UnboundedSender<Event>,
        stop: watch::Receiver<Stop>,
    ) -> Result<RunRecord, RunError> {
        let began = Instant::now();
        let (history, unrecorded) = History::begin(&self.cache, &plan.name, &plan.file);
        // Says that this run is under way, until it ends or its process dies. Only a sweep asks.
        let _under_way = self.cache.claim_run(&history.record.run);
        let mut asked = Asked::of(self, &plan);
        let folder = history.folder().map(Path::to_owned);
        if let Some(folder) = &folder {
            asked.write(folder);
        }
        let shared = Arc::new(Shared::new(self, &plan, history, events));
        let names = selected.iter().map(|index| &plan.stages[*index]);
        shared.send(Event::RunStarted {
            run: shared.run_id(),
            pipeline: plan.name.clone(),
            file: plan.file.clone(),
            device: self.devices.name(),
            stages: names
                .map(|it| StageName { stage: it.id.clone(), kind: it.kind.kind.clone() })
                .collect(),
        });
        if let Some(error) = unrecorded {
            let message = format!("this run leaves no record: {}", error.full());
            shared.send(Event::Note { stage: None, message });
        }
        let (outcome, counts) = drive(&shared, selected, &stop).await?;
        shared.finish_uploads(file, stop).await;
        shared.send(Event::RunFinished {
            run: shared.run_id(),
            outcome,
            ran: counts.ran,
            cached: counts.cached,
            failed: counts.failed,
            skipped: counts.skipped,
            seconds: began.elapsed().as_secs_f64(),
        });
        asked.git = shared.known_commit();
        if let Some(folder) = folder.filter(|_| asked.git.is_some()) {
            asked.write(&folder);
        }
        Ok(shared.record())
    }
}

/// Has `source` computed again, since `stage` found its output gone.
fn anew(shared: &Shared, source: usize, stage: &str, fates: &mut [Fate], actions: &mut Actions) {
    // Another stage may have asked for it already.
    if fates[source] == Fate::Done {
        fates[source] = Fate::Waiting;
        actions.remove(&source);
        let id = &shared.plan.stages[source].id;
        let message = format!("its output is gone from the cache, and `{stage}` needs it: anew");
        shared.send(Event::Note { stage: Some(id.clone()), message });
    }
}

/// Fails a stage that will run and cannot, before anything begins; says so of one that perhaps will run.
fn refuse_early(shared: &Shared, index: usize, fates: &mut [Fate], counts: &mut Counts) {
    let stage = &shared.plan.stages[index];
    if fates[index] != Fate::Waiting {
        return;
    }
    let Some(message) = demands::unmet(&shared.session, stage) else { return };
    let id = stage.id.clone();
    // Somebody else may have made it.
    let is_fetched = shared.session.remote.is_some() && !shared.session.runs_anyway(stage);
    if stage.sources().all(|source| fates[source] == Fate::Done) && !is_fetched {
        fates[index] = Fate::Lost;
        counts.failed += 1;
        shared.send(Event::Failed { stage: id, message, log: Vec::new() });
    } else {
        let message = format!("if it has to run, it will fail: {message}");
        shared.send(Event::Note { stage: Some(id), message });
    }
}

async fn drive(
    shared: &Arc<Shared>,
    selected: &[usize],
    stop: &watch::Receiver<Stop>,
) -> Result<(Outcome, Counts), RunError> {
    let plan = &shared.plan;
    let mut actions = {
        let (shared, selected, stop) = (Arc::clone(shared), selected.to_vec(), stop.clone());
        blocking(move || Ok(recall_all(&shared, &selected, &stop))).await?
    };
    let mut fates = vec![Fate::Waiting; plan.stages.len()];
    for index in actions.keys() {
        fates[*index] = Fate::Done;
    }
    let mut retries = vec![0; plan.stages.len()];
    let mut counts = Counts { ran: 0, cached: actions.len(), failed: 0, skipped: 0, broken: false };
    for &index in selected {
        refuse_early(shared, index, &mut fates, &mut counts);
    }
    let readers = readers(&plan.stages);
    let shorter = shorter(&plan.stages);
    let mut wanted = vec![false; plan.stages.len()];
    for index in selected {
        wanted[*index] = true;
    }
    // Those whose turn may have come; after a failure or a stop that is all.
    let mut look: BTreeSet<usize> = selected.iter().copied().collect();
    let mut ending = false;
    let mut tasks: JoinSet<(usize, Result<Ended, RunError>)> = JoinSet::new();
    loop {
        let stopping = *stop.borrow() != Stop::No;
        let giving_up = counts.failed > 0 && !shared.session.settings.keep_going;
        if !std::mem::replace(&mut ending, stopping || giving_up) && ending {
            look.extend(selected);
        }
        while let Some(index) = look.pop_first() {
            if fates[index] != Fate::Waiting {
                continue;
            }
            let stage = &plan.stages[index];
            let lost = stage.sources().find(|source| fates[*source] == Fate::Lost);
            let because = match lost {
                Some(source) => Some(format!("`{}` did not finish", plan.stages[source].id)),
                None if stopping => Some("the run was stopped".to_owned()),
                None if giving_up => Some("another stage failed".to_owned()),
                None => None,
            };
            if let Some(because) = because {
                fates[index] = Fate::Lost;
                counts.skipped += 1;
                look.extend(readers[index].iter().filter(|reader| wanted[**reader]));
                shared.send(Event::Skipped { stage: stage.id.clone(), because });
            } else if stage.sources().all(|source| fates[source] == Fate::Done)
                && !shorter[index].iter().any(|it| wanted[*it] && fates[*it].is_open())
            {
                fates[index] = Fate::Running;
                let action = |source| Some((source, Arc::clone(actions.get(&source)?)));
                let sources: Actions = stage.sources().filter_map(action).collect();
                let (shared, stop) = (Arc::clone(shared), stop.clone());
                tasks.spawn(async move { (index, execute(shared, index, sources, stop).await) });
            }
        }
        let Some(ended) = tasks.join_next().await else { break };
        let (index, result) =
            ended.map_err(|error| RunError::Setup(format!("gradus itself failed: {error}")))?;
        let stage = plan.stages[index].id.clone();
        look.extend(readers[index].iter().filter(|reader| wanted[**reader]));
        // Longer ones may have waited for this one.
        look.extend((0..shorter.len()).filter(|it| shorter[*it].contains(&index)));
        match result {
            Ok(Ended { action, cached }) => {
                let count = if cached { &mut counts.cached } else { &mut counts.ran };
                *count += 1;
                fates[index] = Fate::Done;
                actions.insert(index, Arc::new(action));
            }
            Err(RunError::Vanished { sources, .. }) if retries[index] < MOST_RETRIES => {
                retries[index] += 1;
                fates[index] = Fate::Waiting;
                look.insert(index);
                for source in sources {
                    look.insert(source);
                    anew(shared, source, &stage, &mut fates, &mut actions);
                }
            }
            Err(RunError::Cancelled) => {
                fates[index] = Fate::Lost;
                counts.skipped += 1;
                let stopped = *stop.borrow() != Stop::No;
                let because = if stopped { "the run was stopped" } else { "another stage failed" };
                shared.send(Event::Skipped { stage, because: because.to_owned() });
            }
            Err(error) => {
                fates[index] = Fate::Lost;
                counts.failed += 1;
                counts.broken |= error.is_ours();
                let log = shared.take_log(&stage);
                shared.send(Event::Failed { stage, message: error.full(), log });
            }
        }
    }
    Ok((outcome(*stop.borrow(), &counts), counts))
}

fn outcome(stop: Stop, counts: &Counts) -> Outcome {
    match (stop, counts.failed) {
        (Stop::Gently | Stop::Now, _) => Outcome::Cancelled,
        (Stop::No, 0) => Outcome::Done,
        (Stop::No, _) if counts.broken => Outcome::Broken,
        (Stop::No, _) => Outcome::Failed,
    }
}
