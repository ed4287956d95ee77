//! `gradus watch`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use gradus_engine::{event::Outcome, project::Project, run::Watched};
use tokio::time::sleep;

use super::{
    run::RunArgs,
    runtime::{Signals, in_runtime},
};
use crate::{failure::Failure, terminal::Terminal};

/// Between two looks at the files. A change counts once two looks in a row found the same.
const PAUSE: Duration = Duration::from_millis(200);

/// Run a pipeline, and again whenever it, its parameters or its inputs were saved
///
/// A mistake is shown and waited out. Ctrl-C ends the run under way and the watch.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    words: RunArgs,
}

impl Watch {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        in_runtime(async |signals| {
            // What a pipeline with mistakes reads is not known: what it last read stays watched.
            let mut inputs = Vec::new();
            loop {
                let own = self.own_files();
                let before = Watched::look(&own);
                let read = match self.words.plan() {
                    Ok((plan, selected)) => {
                        inputs = plan.files(&selected);
                        let read = Watched::look(&inputs);
                        let ended =
                            self.words.once(&plan, &selected, false, signals, terminal).await;
                        let shown = match ended {
                            Ok((_, record)) if record.outcome == Some(Outcome::Cancelled) => break,
                            Ok((session, record)) => {
                                self.words.show(&session, &plan, &record, terminal)
                            }
                            Err(failure) => Err(failure),
                        };
                        if let Err(failure) = shown {
                            terminal.failure(&failure);
                        }
                        Some(read)
                    }
                    Err(failure) => {
                        terminal.failure(&failure);
                        None
                    }
                };
                let look = || (Watched::look(&self.own_files()), Watched::look(&inputs));
                let is_sound = read.is_some();
                let read = read.unwrap_or_else(|| look().1);
                terminal.watching(before.count() + read.count());
                tokio::select! {
                    changed = self.change((before, read), look, is_sound) => terminal.saved(&changed),
                    () = asked_to_end(signals) => break,
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    /// The pipeline, its parameter files, and what its project's workers are made of.
    fn own_files(&self) -> Vec<PathBuf> {
        let pipeline = &self.words.pipeline;
        let mut files = vec![pipeline.pipeline.clone()];
        files.extend(pipeline.parameters.files.iter().cloned());
        for (_, plugin) in
            Project::of(&pipeline.pipeline, None).iter().flat_map(Project::each_plugin)
        {
            let Ok(plugin) = plugin else { continue };
            files.push(plugin.catalog_file);
            files.extend(plugin.sources);
        }
        files
    }

    /// Waits until something was saved, and whoever saves is done. A file that a mistake asks for
    /// changes the plan without being watched.
    async fn change(
        &self,
        before: (Watched, Watched),
        look: impl Fn() -> (Watched, Watched),
        was_sound: bool,
    ) -> PathBuf {
        let mut last = before.clone();
        loop {
            sleep(PAUSE).await;
            let now = look();
            let changed = now.0.changed_since(&before.0).or(now.1.changed_since(&before.1));
            if now == last {
                if let Some(changed) = changed {
                    return changed.to_owned();
                }
                if !was_sound && self.words.plan().is_ok() {
                    return self.words.pipeline.pipeline.clone();
                }
            }
            last = now;
        }
    }
}

async fn asked_to_end(signals: &mut Signals) {
    tokio::select! {
        _ = signals.interrupt.recv() => {}
        () = signals.terminate.recv() => {}
    }
}
