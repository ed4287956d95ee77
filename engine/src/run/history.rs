//! What runs leave behind for people: `runs/ID/` with the events, the logs and a record.
//!
//! Nothing here decides what runs; the cache's actions do. A run's folder may be deleted at any time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use gradus_cache::{Artifact, Cache, Fingerprint};
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::event::{Event, Metrics, Outcome};

/// One run, as `gradus show` reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: String,
    pub pipeline: String,
    /// The pipeline's file when it ran.
    pub file: PathBuf,
    pub outcome: Option<Outcome>,
    pub seconds: f64,
    /// In the order of the plan.
    pub stages: Vec<StageRecord>,
}

/// A stage of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRecord {
    pub stage: String,
    pub kind: String,
    pub status: Status,
    pub fingerprint: Option<Fingerprint>,
    pub outputs: BTreeMap<String, Artifact>,
    pub metrics: Metrics,
    pub seconds: f64,
    pub message: Option<String>,
}

/// What became of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Waiting,
    Running,
    Cached,
    Finished,
    Failed,
    Skipped,
}

/// The run under way.
#[derive(Debug)]
pub struct History {
    /// `None` where the run cannot be recorded.
    place: Option<(PathBuf, File)>,
    pub record: RunRecord,
}

pub(super) fn runs(cache: &Cache) -> PathBuf {
    cache.root().join("runs")
}

/// A name as a file name: what a file system might object to is replaced.
pub(super) fn file_name(stage: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-=.,[]".contains(c) { c } else { '_' };
    let name: String = stage.chars().map(plain).take(120).collect();
    // Never nothing, `.` or `..`, nor hidden.
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

fn write_record(folder: &Path, record: &RunRecord) -> std::io::Result<()> {
    let aside = folder.join("run.json.new");
    fs::write(&aside, serde_json::to_vec_pretty(record)?)?;
    fs::rename(aside, folder.join("run.json"))
}

/// Makes a folder for a run's record; returns the run's name, too.
fn make(cache: &Cache, now: &str) -> Result<(String, PathBuf, File), RunError> {
    let parent = runs(cache);
    let failed = || RunError::io(format!("nothing can be written in `{}`", parent.display()));
    fs::create_dir_all(&parent).map_err(failed())?;
    // Two runs may start in one second; the folder's creation decides who has the name.
    let mut name = now.to_owned();
    let mut number = 1;
    let folder = loop {
        let folder = parent.join(&name);
        match fs::create_dir(&folder) {
            Ok(()) => break folder,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                number += 1;
                name = format!("{now}-{number}");
            }
            Err(error) => return Err(failed()(error)),
        }
    };
    let events = File::create(folder.join("events.jsonl")).map_err(failed())?;
    Ok((name, folder, events))
}

impl History {
    /// Begins a record. A run goes on without one, where nothing can be written: it may need nothing
    /// but what is cached.
    pub(super) fn begin(cache: &Cache, pipeline: &str, file: &Path) -> (Self, Option<RunError>) {
        let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        let (run, place, error) = match make(cache, &now) {
            Ok((name, folder, events)) => (name, Some((folder, events)), None),
            Err(error) => (now, None, Some(error)),
        };
        let record = RunRecord {
            run,
            pipeline: pipeline.to_owned(),
            file: file.to_owned(),
            outcome: None,
            seconds: 0.0,
            stages: Vec::new(),
        };
        (Self { place, record }, error)
    }

    pub fn log_path(&self, stage: &str) -> PathBuf {
        match &self.place {
            Some((folder, _)) => folder.join("logs").join(format!("{}.log", file_name(stage))),
            None => PathBuf::from("/dev/null"),
        }
    }

    /// Takes an event in. What cannot be written is said, and stops nothing.
    pub(super) fn take(&mut self, event: &Event) {
        self.apply(event);
        if matches!(event, Event::Progress { .. }) {
            return;
        }
        let line = serde_json::to_string(event).unwrap_or_default() + "\n";
        let Some((folder, events)) = &mut self.place else { return };
        if let Err(error) = events.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the run's events cannot be written");
        }
        // Not for every cached stage: a run of thousands would write the record as often.
        let settled = matches!(
            event,
            Event::Finished { .. } | Event::Failed { .. } | Event::RunFinished { .. }
        );
        if settled && let Err(error) = write_record(folder, &self.record) {
            tracing::warn!(%error, "the run's record cannot be written");
        }
    }

    fn apply(&mut self, event: &Event) {
        let record = &mut self.record;
        let mut with = |id: &str, change: &dyn Fn(&mut StageRecord)| {
            if let Some(stage) = record.stages.iter_mut().find(|stage| stage.stage == *id) {
                change(stage);
            }
        };
        match event {
            Event::RunStarted { stages, .. } => {
                let waiting = |name: &crate::event::StageName| StageRecord {
                    stage: name.stage.clone(),
                    kind: name.kind.clone(),
                    status: Status::Waiting,
                    fingerprint: None,
                    outputs: BTreeMap::new(),
                    metrics: Metrics::new(),
                    seconds: 0.0,
                    message: None,
                };
                record.stages = stages.iter().map(waiting).collect();
            }
            Event::Started { stage, .. } => with(stage, &|it| it.status = Status::Running),
            Event::Cached { stage, fingerprint, outputs, metrics } => with(stage, &|it| {
                it.status = Status::Cached;
                it.fingerprint = Some(*fingerprint);
                it.outputs.clone_from(outputs);
                it.metrics.clone_from(metrics);
            }),
            Event::Finished { stage, fingerprint, outputs, metrics, seconds } => {
                with(stage, &|it| {
                    it.status = Status::Finished;
                    it.fingerprint = Some(*fingerprint);
                    it.outputs.clone_from(outputs);
                    it.metrics.clone_from(metrics);
                    it.seconds = *seconds;
                });
            }
            Event::Failed { stage, message, .. } => with(stage, &|it| {
                it.status = Status::Failed;
                it.message = Some(message.clone());
            }),
            Event::Skipped { stage, because } => with(stage, &|it| {
                it.status = Status::Skipped;
                it.message = Some(because.clone());
            }),
            Event::RunFinished { outcome, seconds, .. } => {
                record.outcome = Some(*outcome);
                record.seconds = *seconds;
            }
            Event::Waiting { .. }
            | Event::Progress { .. }
            | Event::Metric { .. }
            | Event::Note { .. } => {}
        }
    }

    /// All runs that left a record, the newest first.
    pub fn all(cache: &Cache) -> Vec<RunRecord> {
        let Ok(folders) = fs::read_dir(runs(cache)) else { return Vec::new() };
        let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
        folders.sort_by(|a, b| b.cmp(a));
        let read = |folder: &PathBuf| {
            serde_json::from_slice(&fs::read(folder.join("run.json")).ok()?).ok()
        };
        folders.iter().filter_map(read).collect()
    }

    /// The newest run of the pipeline called `pipeline`.
    pub fn last(cache: &Cache, pipeline: &str) -> Option<RunRecord> {
        Self::all(cache).into_iter().find(|record| record.pipeline == pipeline)
    }

    /// The newest log of a stage.
    pub fn last_log(cache: &Cache, pipeline: &str, stage: &str) -> Option<PathBuf> {
        let of_pipeline = Self::all(cache).into_iter().filter(|run| run.pipeline == pipeline);
        of_pipeline
            .map(|run| {
                runs(cache).join(run.run).join("logs").join(format!("{}.log", file_name(stage)))
            })
            .find(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn no_stage_or_pipeline_is_called_so_that_its_file_lies_elsewhere() {
        assert_eq!(file_name("dpo[beta=0.1]"), "dpo[beta=0.1]");
        assert_eq!(file_name("../x y"), "_.._x_y");
        assert_eq!(file_name(".."), "_..");
        assert_eq!(file_name(""), "_");
    }
}
