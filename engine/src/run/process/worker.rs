//! A worker process on one device, kept from stage to stage.
//!
//! Whatever a worker does, it ends in an ordinary error of one stage: it may die, fall silent, or speak
//! another version.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use gradus_protocol::{Cause, Job, Reply, Request, VERSION};
use serde::de::DeserializeOwned;
use tokio::{
    process::{Child, ChildStdin, ChildStdout},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    frames,
    guard::{Group, guard},
    launch::Launch,
    log::Log,
    secret::Mask,
    stop::{CANCEL_WITHIN, Stop, killed, stopped},
};
use crate::{error::RunError, plugin::Plugin};

/// Opening CUDA on a cold machine takes seconds.
const HELLO_WITHIN: Duration = Duration::from_mins(2);
/// A worker says that it lives every five seconds.
const SILENT_FOR: Duration = Duration::from_mins(1);
/// Between asking a worker to stop and killing it, where it writes down a state to go on from: a large model's takes minutes on a slow disk.
const SAVE_WITHIN: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(crate) struct Worker {
    _group: Group,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    pub(crate) log: Log,
    /// In messages.
    name: String,
    /// As the worker names it, e.g. `cuda:0 (NVIDIA H200)`.
    pub(crate) device: String,
}

impl Plugin {
    /// Starts the worker on the CPU and lets it go again; an error if it is not what its entry says.
    pub async fn greet(&self) -> Result<(), RunError> {
        let log = Log::default();
        let greeted = Worker::start(self.launch(), "cpu", "cpu", log.clone()).await;
        let last = log.last_lines().pop();
        greeted.map(drop).map_err(|error| match last {
            Some(line) => RunError::Setup(format!("{}; its last line is `{line}`", error.full())),
            None => error,
        })
    }
}

impl Worker {
    /// Starts a worker on `device` and checks who it is.
    pub(crate) async fn start(
        launch: Launch,
        device: &str,
        class: &str,
        log: Log,
    ) -> Result<Self, RunError> {
        let Launch { mut command, name, catalog, outdated, renew } = launch;
        guard(&mut command);
        let mut child = command
            .args(["serve", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = command.as_std().get_program().display();
                RunError::Setup(format!("{name}, `{program}`, cannot be started: {error}"))
            })?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(RunError::Setup(format!("the pipes of {name} are missing")));
        };
        tokio::spawn(log.clone().drain(stderr, Mask::default()));
        let group = Group::of(&child);
        let device = device.to_owned();
        let mut worker = Self { _group: group, child, stdin, stdout, log, name, device };
        let hello = match timeout(HELLO_WITHIN, worker.next_as::<serde_json::Value>()).await {
            Ok(hello) => hello,
            Err(_) => Err(worker.lost("did not open its device in two minutes").await),
        };
        // No stage is at fault yet.
        let hello = hello.map_err(|error| RunError::Setup(error.full()))?;
        let name = &worker.name;
        // Before anything else of it is read: what another version says may have another form.
        if let Some(protocol) = hello.get("protocol").filter(|it| **it != VERSION) {
            return Err(RunError::Setup(format!(
                "{name} speaks version {protocol} of the protocol and gradus {VERSION}: {outdated}"
            )));
        }
        let hello = serde_json::from_value(hello).map_err(|error| {
            RunError::Setup(format!("{name} broke the protocol with its first words: {error}"))
        })?;
        match hello {
            Reply::Hello { catalog: its, .. } if its != catalog => {
                Err(RunError::Setup(format!("{name} has other stage kinds than gradus: {renew}")))
            }
            Reply::Hello { device, device_class, .. } if class.starts_with(&device_class) => {
                worker.device = device;
                Ok(worker)
            }
            Reply::Hello { device_class, .. } => Err(RunError::Setup(format!(
                "{name} opened `{device_class}` where gradus found `{class}`"
            ))),
            Reply::Failed { message, .. } => Err(RunError::Setup(message)),
            other => Err(RunError::Stage(format!("{name} began with {other:?}"))),
        }
    }

    /// Runs one job. Whether the worker outlives an error is told by `is_alive`.
    pub(crate) async fn run(
        &mut self,
        job: Job,
        stop: &mut watch::Receiver<Stop>,
        mut report: impl FnMut(Reply),
    ) -> Result<(), RunError> {
        if frames::write(&mut self.stdin, &Request::Run(Box::new(job))).await.is_err() {
            return Err(self.lost("is gone").await);
        }
        loop {
            let reply = tokio::select! {
                reply = timeout(SILENT_FOR, self.next()) => reply,
                () = stopped(stop) => return self.cancel(stop, &mut report).await,
            };
            match reply {
                Err(_) => return Err(self.lost("was silent for a minute").await),
                Ok(reply) => match reply? {
                    Reply::Done => return Ok(()),
                    Reply::Failed { cause: Cause::Cancelled, .. } => {
                        return Err(RunError::Cancelled);
                    }
                    Reply::Failed { cause: Cause::Crash, message } => {
                        // Native code that threw may have left anything behind.
                        self.kill().await;
                        return Err(RunError::Died(message));
                    }
                    Reply::Failed { message, .. } => return Err(RunError::Stage(message)),
                    Reply::Alive | Reply::Saving => {}
                    other => report(other),
                },
            }
        }
    }

    /// Asks, waits, then kills.
    async fn cancel(
        &mut self,
        stop: &mut watch::Receiver<Stop>,
        report: &mut impl FnMut(Reply),
    ) -> Result<(), RunError> {
        let asked = frames::write(&mut self.stdin, &Request::Cancel).await.is_ok();
        let answer = async {
            let mut until = Instant::now() + CANCEL_WITHIN;
            while let Ok(Ok(reply)) = timeout_at(until, self.next()).await {
                match reply {
                    Reply::Failed { .. } | Reply::Done => return true,
                    Reply::Saving => {
                        until = Instant::now() + SAVE_WITHIN;
                        let words = "writes down where it stands, to go on from there".to_owned();
                        report(Reply::Note { words });
                    }
                    _ => {}
                }
            }
            false
        };
        let ended = tokio::select! {
            ended = answer => asked && ended,
            () = killed(stop) => false,
        };
        if !ended {
            self.kill().await;
        }
        Err(RunError::Cancelled)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn next(&mut self) -> Result<Reply, RunError> {
        self.next_as().await
    }

    async fn next_as<T: DeserializeOwned>(&mut self) -> Result<T, RunError> {
        match frames::read(&mut self.stdout).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.lost("ended").await),
            Err(error) => Err(self.lost(&format!("broke the protocol ({error})")).await),
        }
    }

    /// Puts the worker away and says how it ended.
    async fn lost(&mut self, what: &str) -> RunError {
        // It closed its pipe a moment before it ends: its own status tells more than our signal.
        let own = timeout(Duration::from_secs(2), self.child.wait()).await;
        let status = if let Ok(Ok(status)) = own {
            describe(status)
        } else {
            self.kill().await;
            "and was killed".to_owned()
        };
        // Whatever it wrote last is still on its way to the log.
        tokio::time::sleep(Duration::from_millis(50)).await;
        RunError::Died(format!("{} {what} {status}", self.name))
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "the worker cannot be killed");
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(libc::SIGKILL)) => {
            "by signal 9: the system kills a process like that when memory runs out".to_owned()
        }
        (None, Some(libc::SIGSEGV)) => "by signal 11: a crash in native code".to_owned(),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "in an unknown way".to_owned(),
    }
}
