//! What a run made, on its way to the remote while other stages run. Only its end waits for what is left.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use gradus_cache::{Cache, Fingerprint};
use gradus_remote::{PushError, Remote};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::run::process::stop::{Stop, stopped};

/// After so many failures in a row the rest is not tried.
const MOST_FAILURES: usize = 3;

/// Nothing, where the project does not write to a remote.
pub(crate) struct Uploads(Option<Queue>);

struct Queue {
    remote: Remote,
    /// Taken when nothing more comes.
    work: Mutex<Option<Work>>,
    count: Arc<Mutex<Count>>,
}

struct Work {
    to: mpsc::UnboundedSender<Fingerprint>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Count {
    begun: usize,
    done: usize,
    failed: usize,
    /// Why the first of them failed.
    why: Option<PushError>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    pub(crate) fn to(remote: Option<&Remote>, cache: &Cache) -> Self {
        let Some(remote) = remote.filter(|remote| remote.writes()).cloned() else {
            return Self(None);
        };
        let (to, queue) = mpsc::unbounded_channel();
        let count = Arc::default();
        let task = upload(remote.clone(), cache.clone(), queue, Arc::clone(&count));
        let work = Work { to, task: tokio::spawn(task) };
        Self(Some(Queue { remote, work: Mutex::new(Some(work)), count }))
    }

    pub(crate) fn begin(&self, fingerprint: Fingerprint) {
        let Some(queue) = &self.0 else { return };
        if let Some(work) = &*lock(&queue.work) {
            lock(&queue.count).begun += 1;
            // The task listens as long as we speak.
            let _ = work.to.send(fingerprint);
        }
    }

    /// Waits for what is under way, unless the run is to stop, and tells what did not get there.
    pub(crate) async fn finish(
        &self,
        note: impl Fn(String),
        file: &Path,
        mut stop: watch::Receiver<Stop>,
    ) {
        let Some(queue) = &self.0 else { return };
        let Some(Work { to, task }) = lock(&queue.work).take() else { return };
        let place = queue.remote.place();
        let left = {
            let count = lock(&queue.count);
            count.begun - count.done - count.failed
        };
        drop(to);
        if left > 0 && *stop.borrow() == Stop::No {
            let results = results(left);
            note(format!("uploading {results} to `{place}`; Ctrl-C leaves the rest for later"));
        }
        tokio::select! {
            _ = task => {}
            () = stopped(&mut stop) => {}
        }
        let count = lock(&queue.count);
        let missing = count.begun - count.done;
        if missing > 0 {
            let why = count.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let again = format!("`gradus cache push {}` uploads what is missing", file.display());
            let results = results(missing);
            note(format!("{results} did not get to the remote `{place}`{why}: {again}"));
        }
    }
}

async fn upload(
    remote: Remote,
    cache: Cache,
    mut queue: mpsc::UnboundedReceiver<Fingerprint>,
    count: Arc<Mutex<Count>>,
) {
    let mut in_a_row = 0;
    while let Some(fingerprint) = queue.recv().await {
        if in_a_row >= MOST_FAILURES {
            lock(&count).failed += 1;
            continue;
        }
        let (remote, cache) = (remote.clone(), cache.clone());
        let pushed = tokio::task::spawn_blocking(move || remote.push(&cache, &fingerprint)).await;
        let mut count = lock(&count);
        match pushed {
            Ok(Ok(_)) => {
                in_a_row = 0;
                count.done += 1;
            }
            Ok(Err(error)) => {
                in_a_row += 1;
                count.failed += 1;
                count.why.get_or_insert(error);
            }
            Err(_) => count.failed += 1,
        }
    }
}

fn results(count: usize) -> String {
    if count == 1 { "1 result".to_owned() } else { format!("{count} results") }
}
