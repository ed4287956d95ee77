//! What the stages of a run share: the machine, workers that idle, and who hears what.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gradus_cache::{Digest, Fingerprint};
use tokio::sync::{Semaphore, mpsc::UnboundedSender, watch};

use super::{
    resolve::Resolved,
    slots::{CPU, Slot, Slots},
    uploads::Uploads,
};
use crate::{
    error::RunError,
    event::Event,
    plan::{Plan, Stage},
    run::{
        history::{History, RunRecord},
        made::Commit,
        process::{launch::Toolchain, log::Log, stop::Stop, worker::Worker},
        session::Session,
    },
};

const MOST_FETCHES: usize = 16;

/// What an idle worker can be used for: its plugin with what that is made of, if it is one's, and its device.
pub(crate) type Post = (Option<(String, Vec<Digest>)>, String);

/// What the stages of a run share.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) session: Session,
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
    pub(crate) fetches: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        session: &Session,
        plan: &Arc<Plan>,
        history: History,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self {
            plan: Arc::clone(plan),
            session: session.clone(),
            history: Mutex::new(history),
            events,
            slots: Slots::of(session),
            idle: Mutex::default(),
            queues: Mutex::default(),
            forced: Mutex::default(),
            failed_logs: Mutex::default(),
            toolchain: Mutex::default(),
            commit: OnceLock::new(),
            giving_up: AtomicBool::new(false),
            fetches: Semaphore::new(MOST_FETCHES),
            uploads: Uploads::to(session.remote.as_ref(), &session.cache),
        }
    }

    pub(crate) fn send(&self, event: Event) {
        self.send_all(&mut vec![event]);
    }

    pub(crate) fn send_all(&self, events: &mut Vec<Event>) {
        lock(&self.history).take(events);
        for event in events.drain(..) {
            // A listener that went away misses what it does not want.
            let _ = self.events.send(event);
        }
    }

    pub(crate) fn log_path(&self, stage: &str) -> PathBuf {
        lock(&self.history).log_path(stage)
    }

    pub(crate) fn run_id(&self) -> String {
        lock(&self.history).record.run.clone()
    }

    /// The queue of this run's own stages at the same work: whoever has the lock is served.
    pub(crate) fn queue(&self, work: Fingerprint) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.queues).entry(work).or_default())
    }

    /// Whether the state in which `stage` ends is to stay.
    pub(crate) fn keeps_last(&self, stage: &Stage) -> bool {
        self.session.settings.checkpoint.keep_last && stage.extends()
    }

    /// True once for each fingerprint: the same work is forced only once a run.
    pub(crate) fn first_time(&self, fingerprint: Fingerprint) -> bool {
        lock(&self.forced).insert(fingerprint)
    }

    /// What was begun did not come to its end, and is to be forced once more.
    pub(crate) fn not_yet(&self, fingerprint: Fingerprint) {
        lock(&self.forced).remove(&fingerprint);
    }

    pub(crate) async fn slot(&self, stage: &Stage) -> Result<Slot, RunError> {
        self.slots.take(stage, &self.session).await
    }

    /// Where `stage` is to run: whoever brings its kind, on `device`.
    pub(crate) fn post(&self, stage: &Stage, resolved: &Resolved, device: &str) -> Post {
        // One that was started before its program changed is of no use to who comes after.
        let program = || resolved.known.program.iter().map(|it| it.digest).collect();
        let plugin = self.session.plugin_of(&stage.kind);
        (plugin.map(|plugin| (plugin.name.clone(), program())), device.to_owned())
    }

    /// A worker for `post`, to run `stage`: one that idles, else a new one.
    pub(crate) async fn worker(
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

    pub(crate) fn put_back(&self, post: Post, worker: Worker) {
        lock(&self.idle).entry(post).or_default().push(worker);
    }

    /// Keeps the last lines of a failed stage's log for the report.
    pub(crate) fn keep_log(&self, stage: &str, log: &Log, failed: bool) {
        if failed {
            lock(&self.failed_logs).insert(stage.to_owned(), log.last_lines());
        }
    }

    /// The last lines of a failed stage's log, once.
    pub(crate) fn take_log(&self, stage: &str) -> Vec<String> {
        lock(&self.failed_logs).remove(stage).unwrap_or_default()
    }

    /// Whether a stage that waited for its slot is still to begin.
    pub(crate) fn goes_on(&self) -> bool {
        !self.giving_up.load(Ordering::Relaxed)
    }

    /// After a failure, unless the others are to go on.
    pub(crate) fn give_up(&self) {
        self.giving_up.store(!self.session.settings.keep_going, Ordering::Relaxed);
    }

    /// Has the remote get what a stage made, while others run.
    pub(crate) fn upload(&self, fingerprint: Fingerprint) {
        self.uploads.begin(fingerprint);
    }

    /// Waits for what is on its way to the remote.
    pub(crate) async fn finish_uploads(&self, file: &Path, stop: watch::Receiver<Stop>) {
        let note = |message| self.send(Event::Note { stage: None, message });
        self.uploads.finish(note, file, stop).await;
    }

    /// What is known of the run by now.
    pub(crate) fn record(&self) -> RunRecord {
        lock(&self.history).record.clone()
    }

    /// The same where it was asked for already.
    pub(crate) fn known_commit(&self) -> Option<Commit> {
        self.commit.get().cloned().flatten()
    }

    /// The commit of the work tree that the pipeline lies in. Waits for git, once a run.
    pub(crate) fn commit(&self) -> Option<Commit> {
        let file = lock(&self.history).record.file.clone();
        self.commit
            .get_or_init(|| {
                let file = std::path::absolute(file).ok()?;
                Commit::of(file.parent()?)
            })
            .clone()
    }

    /// The version of libtorch that computed `stage`, if one did.
    pub(crate) fn libtorch_of(&self, stage: &Stage) -> Option<String> {
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
