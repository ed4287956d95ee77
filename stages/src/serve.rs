//! The worker's side of the conversation: one stage at a time, until stdin ends.
//!
//! Three threads: one reads requests (so a cancel is heard while a stage runs), one says that the
//! process lives, and the main one runs stages. They share the way out behind a lock.

use std::{
    any::Any,
    fs::File,
    io::{self, Write},
    os::fd::FromRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use gradus_protocol::{Cause, Job, Reply, Request, VERSION, read_frame, write_frame};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    catalog::catalog,
    context::Context,
    device::{self, Opened},
    error::{StageError, plain},
    families, look, take,
};

const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Prints the catalogue that belongs into `stages/catalog.json`.
pub(crate) fn print_catalog() -> ExitCode {
    let text = serde_json::to_string_pretty(&catalog()).unwrap_or_default() + "\n";
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}

/// Says how a worker is started, to a person who did it by hand.
pub(crate) fn usage() -> ExitCode {
    log("gradus-worker is started by gradus: gradus-worker serve DEVICE | gradus-worker catalog");
    ExitCode::from(2)
}

/// stderr is this stage's log; a log that cannot be written is no reason to stop.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Answers requests until the engine closes stdin.
pub(crate) fn serve(wanted: &str) -> ExitCode {
    let frames = match take_stdout() {
        Ok(file) => Arc::new(Mutex::new(file)),
        Err(error) => {
            log(&format!("stdout cannot be set aside for frames: {error}"));
            return ExitCode::from(2);
        }
    };
    let send = {
        let frames = Arc::clone(&frames);
        move |reply: Reply| {
            let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
            if write_frame(&mut *frames, &reply).is_err() {
                // Nobody listens any more: the engine is gone, and so is the reason to go on.
                std::process::exit(2);
            }
        }
    };
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    // The log is shown to people when a stage fails.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("panicked at {place}: {}", words_of(panic.payload()));
    }));
    let opened = match device::open(wanted) {
        Ok(opened) => opened,
        Err(message) => {
            send(Reply::Failed { cause: Cause::Stage, message });
            return ExitCode::FAILURE;
        }
    };
    send(Reply::Hello {
        protocol: VERSION,
        catalog: catalog(),
        device: opened.name.clone(),
        device_class: opened.class.clone(),
    });
    let cancelled = Arc::new(AtomicBool::new(false));
    let jobs = listen(Arc::clone(&cancelled));
    let alive = send.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(ALIVE_EVERY);
            alive(Reply::Alive);
        }
    });
    for job in jobs {
        let reply = answer(&job, &opened, Arc::clone(&cancelled), Box::new(send.clone()));
        cancelled.store(false, Ordering::Relaxed);
        send(reply);
    }
    ExitCode::SUCCESS
}

/// Keeps the real stdout for frames and lets descriptor 1 lead to stderr.
fn take_stdout() -> io::Result<File> {
    // SAFETY: plain descriptor calls; the duplicate is owned by the returned file alone.
    unsafe {
        let private = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        if private < 0 || libc::dup2(2, 1) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(private))
    }
}

fn listen(cancelled: Arc<AtomicBool>) -> mpsc::Receiver<Box<Job>> {
    let (jobs, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            match read_frame(&mut stdin) {
                Ok(Some(Request::Run(job))) => {
                    if jobs.send(job).is_err() {
                        return;
                    }
                }
                Ok(Some(Request::Cancel)) => cancelled.store(true, Ordering::Relaxed),
                // The engine closes stdin when it wants no more, or has died: either way there is
                // nobody left to work for.
                Ok(None) => std::process::exit(0),
                Err(error) => {
                    log(&format!("the engine sent what is no request: {error}"));
                    return;
                }
            }
        }
    });
    receiver
}

fn answer(
    job: &Job,
    opened: &Opened,
    cancelled: Arc<AtomicBool>,
    send: Box<dyn FnMut(Reply) + Send>,
) -> Reply {
    let failed = |cause, message: String| Reply::Failed { cause, message };
    let run = match families::find(&job.kind) {
        Some(stage) => stage.run,
        None if take::is_meant(job) => take::take,
        None if look::is_meant(job) => look::look,
        None => return failed(Cause::Stage, format!("this worker has no kind `{}`", job.kind)),
    };
    tch::set_num_threads(i32::try_from(job.threads).unwrap_or(1));
    tracing::info!(kind = job.kind, seed = job.seed, device = opened.name, "begins");
    let mut context = Context::new(job.seed, opened.device, cancelled, send);
    context.checkpoints.clone_from(&job.checkpoints);
    context.ledger.clone_from(&job.ledger);
    context.machine = format!("{}, {} threads", opened.class, job.threads);
    match catch_unwind(AssertUnwindSafe(|| run(job, &mut context))) {
        Ok(Ok(())) => Reply::Done,
        Ok(Err(StageError::Cancelled)) => failed(Cause::Cancelled, "cancelled".to_owned()),
        Ok(Err(error @ StageError::Tensor(_))) => failed(Cause::Crash, error.to_string()),
        Ok(Err(error)) => failed(Cause::Stage, error.to_string()),
        Err(panic) => failed(Cause::Crash, words_of(panic.as_ref())),
    }
}

/// What a panic said; of a C++ exception that tch passed on, no stack.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words");
    plain(text)
}
