//! Which stage runs when: as soon as its inputs are there and a slot is free.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use gradus_cache::{Digest, Fingerprint};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedSender, watch},
    task::JoinSet,
};

use super::{
    Commit, History, RunError, RunRecord, Session, demands,
    execute::{Ended, blocking, execute, recall_all},
    launch::Toolchain,
    log::Log,
    resolve::{Actions, Resolved},
    slots::{CPU, Slot, Slots},
    uploads::Uploads,
    worker::Worker,
};
use crate::{
    event::{Event, Outcome, StageName},
    plan::{Plan, Stage, readers, shorter},
};

/// Whether a run is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    No,
    /// Ask the workers to stop.
    Gently,
    /// Kill them.
    Now,
}

/// So often a stage is tried again when its inputs are taken away under its hands.
const MOST_RETRIES: u32 = 5;
const MOST_FETCHES: usize = 16;

/// What an idle worker can be used for: its plugin with what that is made of, if it is one's, and its device.
pub(super) type Post = (Option<(String, Vec<Digest>)>, String);

/// What the stages of a run share.
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) session: Session,
    history: Mutex<History>,
    events: UnboundedSender<Event>,
    slots: Slots,
    idle: Mutex<HashMap<Post, Vec<Worker>>>,
    queues: Mutex<HashMap<Fingerprint, Arc<tokio::sync::Mutex<()>>>>,
    forced: Mutex<HashSet<Fingerprint>>,
    failed_logs: Mutex<HashMap<String, Vec<String>>>,
    toolchain: Mutex<Option<Toolchain>>,
    /// Asked for when the first stage is committed: a run that finds all cached starts no git.
    commit: OnceLock<Option<Commit>>,
    /// A stage failed, and the others are not to begin any more.
    giving_up: AtomicBool,
    uploads: Uploads,
    /// So many results are fetched at once, each on a thread that waits.
    pub(super) fetches: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn send(&self, event: Event) {
        self.send_all(&mut vec![event]);
    }

    pub(super) fn send_all(&self, events: &mut Vec<Event>) {
        lock(&self.history).take(events);
        for event in events.drain(..) {
            // A listener that went away misses what it does not want.
            let _ = self.events.send(event);
        }
    }

    pub(super) fn log_path(&self, stage: &str) -> PathBuf {
        lock(&self.history).log_path(stage)
    }

    pub(super) fn run_id(&self) -> String {
        lock(&self.history).record.run.clone()
    }

    /// The queue of this run's own stages at the same work: whoever has the lock is served.
    pub(super) fn queue(&self, work: Fingerprint) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.queues).entry(work).or_default())
    }

    /// Whether the state in which `stage` ends is to stay.
    pub(super) fn keeps_last(&self, stage: &Stage) -> bool {
        self.session.settings.checkpoint.keep_last && stage.extends()
    }

    /// True once for each fingerprint: the same work is forced only once a run.
    pub(super) fn first_time(&self, fingerprint: Fingerprint) -> bool {
        lock(&self.forced).insert(fingerprint)
    }

    /// What was begun did not come to its end, and is to be forced once more.
    pub(super) fn not_yet(&self, fingerprint: Fingerprint) {
        lock(&self.forced).remove(&fingerprint);
    }

    pub(super) async fn slot(&self, stage: &Stage) -> Result<Slot, RunError> {
        self.slots.take(stage, &self.session).await
    }

    /// Where `stage` is to run: whoever brings its kind, on `device`.
    pub(super) fn post(&self, stage: &Stage, resolved: &Resolved, device: &str) -> Post {
        // One that was started before its program changed is of no use to who comes after.
        let program = || resolved.known.program.iter().map(|it| it.digest).collect();
        let plugin = self.session.plugin_of(&stage.kind);
        (plugin.map(|plugin| (plugin.name.clone(), program())), device.to_owned())
    }

    /// A worker for `post`, to run `stage`: one that idles, else a new one.
    pub(super) async fn worker(
        &self,
        post: &Post,
        stage: &Stage,
        log_path: &Path,
    ) -> Result<Worker, RunError> {
        let no_log = || RunError::io("the stage's log cannot be written");
        while let Some(mut worker) = lock(&self.idle).get_mut(post).and_then(Vec::pop) {
            if worker.is_alive() {
                worker.log.begin(log_path).map_err(no_log())?;
                return Ok(worker);
            }
        }
        let launch = match self.session.plugin_of(&stage.kind) {
            Some(plugin) => plugin.launch(),
            None => self.toolchain()?.launch(&self.session.catalog),
        };
        let (_, device) = post;
        let class = if device == CPU { CPU } else { self.session.devices.class.as_str() };
        let log = Log::default();
        log.begin(log_path).map_err(no_log())?;
        let started = Worker::start(launch, device, class, log.clone()).await;
        self.keep_log(&stage.id, &log, started.is_err());
        started
    }

    pub(super) fn put_back(&self, post: Post, worker: Worker) {
        lock(&self.idle).entry(post).or_default().push(worker);
    }

    /// Keeps the last lines of a failed stage's log for the report.
    pub(super) fn keep_log(&self, stage: &str, log: &Log, failed: bool) {
        if failed {
            lock(&self.failed_logs).insert(stage.to_owned(), log.last_lines());
        }
    }

    /// The last lines of a failed stage's log, once.
    pub(super) fn take_log(&self, stage: &str) -> Vec<String> {
        lock(&self.failed_logs).remove(stage).unwrap_or_default()
    }

    /// Whether a stage that waited for its slot is still to begin.
    pub(super) fn goes_on(&self) -> bool {
        !self.giving_up.load(Ordering::Relaxed)
    }

    /// After a failure, unless the others are to go on.
    pub(super) fn give_up(&self) {
        self.giving_up.store(!self.session.settings.keep_going, Ordering::Relaxed);
    }

    /// Has the remote get what a stage made, while others run.
    pub(super) fn upload(&self, fingerprint: Fingerprint) {
        self.uploads.begin(fingerprint);
    }

    /// The commit of the work tree that the pipeline lies in. Waits for git, once a run.
    pub(super) fn commit(&self) -> Option<Commit> {
        let file = lock(&self.history).record.file.clone();
        self.commit
            .get_or_init(|| {
                let file = std::path::absolute(file).ok()?;
                Commit::of(file.parent()?)
            })
            .clone()
    }

    /// The version of libtorch that computed `stage`, if one did.
    pub(super) fn libtorch_of(&self, stage: &Stage) -> Option<String> {
        if stage.exec.is_some() || self.session.plugin_of(&stage.kind).is_some() {
            return None;
        }
        lock(&self.toolchain).as_ref()?.libtorch.as_ref().map(|it| it.version.clone())
    }

    fn toolchain(&self) -> Result<Toolchain, RunError> {
        let mut found = lock(&self.toolchain);
        if found.is_none() {
            *found = Some(Toolchain::find(&self.session.project)?);
        }
        found.clone().ok_or_else(|| RunError::Setup("the worker was not found".to_owned()))
    }
}

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
        let shared = Arc::new(Shared {
            plan: Arc::clone(&plan),
            session: self.clone(),
            history: Mutex::new(history),
            events,
            slots: Slots::of(self),
            idle: Mutex::default(),
            queues: Mutex::default(),
            forced: Mutex::default(),
            failed_logs: Mutex::default(),
            toolchain: Mutex::default(),
            commit: OnceLock::new(),
            giving_up: AtomicBool::new(false),
            fetches: Semaphore::new(MOST_FETCHES),
            uploads: Uploads::to(self.remote.as_ref(), &self.cache),
        });
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
        shared.uploads.finish(&shared, file, stop).await;
        shared.send(Event::RunFinished {
            run: shared.run_id(),
            outcome,
            ran: counts.ran,
            cached: counts.cached,
            failed: counts.failed,
            skipped: counts.skipped,
            seconds: began.elapsed().as_secs_f64(),
        });
        let record = lock(&shared.history).record.clone();
        Ok(record)
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
