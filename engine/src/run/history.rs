//! What runs leave behind for people: `runs/ID/` with the events, the logs and a record.
//!
//! Nothing here decides what runs; the cache's actions do. A run's folder may be deleted at any time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use gradus_cache::{Artifact, Cache, Fingerprint};
use serde::{Deserialize, Serialize};

use crate::{
    error::RunError,
    event::{Event, Metrics, Outcome},
};

/// One run, as `gradus show` reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: String,
    pub pipeline: String,
    /// The pipeline's file when it ran, by its absolute path.
    pub file: PathBuf,
    /// `None` for a run that is under way, or was killed.
    pub outcome: Option<Outcome>,
    /// Seconds since 1970.
    #[serde(default)]
    pub started: u64,
    pub seconds: f64,
    /// In the order of the plan.
    pub stages: Vec<StageRecord>,
    /// The stage of the last event.
    #[serde(skip)]
    last_touched: usize,
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
    /// What the kind says to these numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    pub seconds: f64,
    pub message: Option<String>,
    /// Cached, and fetched from the remote by this run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remote: bool,
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

pub(crate) fn runs(cache: &Cache) -> PathBuf {
    cache.root().join("runs")
}

/// Of a file's name; what is put behind it must fit, too, where names have 255 bytes.
const LONGEST_NAME: usize = 180;

/// A name as a file name, readable where it can be: `base/sft` is `base~sft`. What a file system might object to, or
/// has no room for, is replaced, and then a hash of all of it tells two names apart.
pub(crate) fn file_name(stage: &str) -> String {
    let plain = |c: char| match c {
        '/' => '~',
        _ if c.is_alphanumeric() || "_-=.,[]".contains(c) => c,
        _ => '_',
    };
    let mut name: String = stage.chars().map(plain).collect();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    // Never nothing, `.` or `..`, nor hidden.
    if name.is_empty() || name.starts_with('.') {
        name.insert(0, '_');
    }
    if name.replace('~', "/") == stage {
        return name;
    }
    let hash = blake3::hash(stage.as_bytes()).to_hex();
    format!("{name}~~{}", &hash[..12])
}

fn write_record(folder: &Path, record: &RunRecord) -> std::io::Result<()> {
    let aside = folder.join("run.json.new");
    fs::write(&aside, serde_json::to_vec(record)?)?;
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
    pub(crate) fn begin(cache: &Cache, pipeline: &str, file: &Path) -> (Self, Option<RunError>) {
        // In UTC, so that names stand in the order of the runs wherever they were started.
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let (run, place, error) = match make(cache, &now) {
            Ok((name, folder, events)) => (name, Some((folder, events)), None),
            Err(error) => (now, None, Some(error)),
        };
        let record = RunRecord {
            run,
            pipeline: pipeline.to_owned(),
            file: file.to_owned(),
            outcome: None,
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs()),
            seconds: 0.0,
            stages: Vec::new(),
            last_touched: 0,
        };
        (Self { place, record }, error)
    }

    /// Where the run is recorded, if it is.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.place.as_ref().map(|(folder, _)| folder.as_path())
    }

    pub fn log_path(&self, stage: &str) -> PathBuf {
        match &self.place {
            Some((folder, _)) => folder.join("logs").join(format!("{}.log", file_name(stage))),
            None => PathBuf::from("/dev/null"),
        }
    }

    /// Takes events in. What cannot be written is said, and stops nothing.
    pub(crate) fn take(&mut self, events: &[Event]) {
        let mut lines = String::new();
        let mut settled = false;
        for event in events {
            self.record.apply(event);
            if !matches!(event, Event::Progress { .. }) {
                lines += &serde_json::to_string(event).unwrap_or_default();
                lines.push('\n');
            }
            // Until then the events say it all: a run of thousands would write the record as often.
            settled |= matches!(event, Event::RunFinished { .. });
        }
        let Some((folder, file)) = &mut self.place else { return };
        if let Err(error) = file.write_all(lines.as_bytes()) {
            tracing::warn!(%error, "the run's events cannot be written");
        }
        if settled && let Err(error) = write_record(folder, &self.record) {
            tracing::warn!(%error, "the run's record cannot be written");
        }
    }
}

impl RunRecord {
    fn apply(&mut self, event: &Event) {
        let record = self;
        let mut with = |id: &str, change: &dyn Fn(&mut StageRecord)| {
            // Events come much in the order of the stages: the search goes on where the last one ended.
            let (before, after) = record.stages.split_at_mut(record.last_touched);
            let found = (after.iter_mut().zip(record.last_touched..))
                .chain(before.iter_mut().zip(0..))
                .find(|(stage, _)| stage.stage == *id);
            if let Some((stage, index)) = found {
                change(stage);
                record.last_touched = index;
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
                    advice: Vec::new(),
                    seconds: 0.0,
                    message: None,
                    remote: false,
                };
                record.stages = stages.iter().map(waiting).collect();
                record.last_touched = 0;
            }
            Event::Started { stage, .. } => with(stage, &|it| it.status = Status::Running),
            Event::Cached { stage, fingerprint, outputs, metrics, advice, remote } => {
                with(stage, &|it| {
                    it.advice.clone_from(advice);
                    it.status = Status::Cached;
                    it.remote = *remote;
                    it.fingerprint = Some(*fingerprint);
                    it.outputs.clone_from(outputs);
                    it.metrics.clone_from(metrics);
                });
            }
            Event::Finished { stage, fingerprint, outputs, metrics, advice, seconds } => {
                with(stage, &|it| {
                    it.advice.clone_from(advice);
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
            | Event::Retried { .. }
            | Event::Progress { .. }
            | Event::Metric { .. }
            | Event::Note { .. } => {}
        }
    }

    /// How many stages ended like this.
    pub fn count(&self, status: Status) -> usize {
        self.stages.iter().filter(|stage| stage.status == status).count()
    }

    /// The record of a run that is under way, or was killed.
    fn replayed(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("events.jsonl")).ok()?;
        // Most lines of a long training, and of no use here.
        let lines = text.lines().filter(|line| !line.starts_with("{\"event\":\"metric\""));
        let mut events = lines.filter_map(|line| serde_json::from_str::<Event>(line).ok());
        let first = events.next()?;
        let Event::RunStarted { run, pipeline, file, .. } = &first else { return None };
        let made = fs::metadata(folder.join("events.jsonl")).and_then(|it| it.created()).ok();
        let since = made.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        let mut record = Self {
            run: run.clone(),
            pipeline: pipeline.clone(),
            file: file.clone(),
            outcome: None,
            started: since.map_or(0, |it| it.as_secs()),
            seconds: 0.0,
            stages: Vec::new(),
            last_touched: 0,
        };
        std::iter::once(first).chain(events).for_each(|event| record.apply(&event));
        Some(record)
    }
}

impl History {
    /// All runs that left anything, the newest first.
    pub fn all(cache: &Cache) -> Vec<RunRecord> {
        let Ok(folders) = fs::read_dir(runs(cache)) else { return Vec::new() };
        let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
        // Of one second the names tell.
        folders.sort_by(|a, b| newest_first(a, b));
        let read = |folder: &PathBuf| match fs::read(folder.join("run.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(_) => RunRecord::replayed(folder),
        };
        let mut runs: Vec<RunRecord> = folders.iter().filter_map(read).collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        runs
    }

    /// Those of the pipeline whose file is `file`.
    pub fn of(cache: &Cache, file: &Path) -> Vec<RunRecord> {
        Self::all(cache).into_iter().filter(|run| run.file == file).collect()
    }

    /// The run of `runs` (the newest first) that `text` means: `last`, `last~2`, an id, or the beginning of
    /// one. The error says why there is none.
    pub fn find<'r>(runs: &'r [RunRecord], text: &str) -> Result<&'r RunRecord, String> {
        let back = match text.strip_prefix("last") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('~').and_then(|count| count.parse::<usize>().ok()),
            None => None,
        };
        if let Some(back) = back {
            let count = runs.len();
            return runs.get(back).ok_or_else(|| match count {
                0 => "nothing has run yet".to_owned(),
                1 => format!("`{text}` goes back too far: there is one run"),
                _ => format!("`{text}` goes back too far: there are {count} runs"),
            });
        }
        if let Some(run) = runs.iter().find(|run| run.run == text) {
            return Ok(run);
        }
        let begin = runs.iter().filter(|run| run.run.starts_with(text) && !text.is_empty());
        match begin.collect::<Vec<_>>().as_slice() {
            [run] => Ok(run),
            [] => Err(format!("no run is called `{text}`")),
            several => {
                let ids: Vec<_> = several.iter().map(|run| run.run.as_str()).take(5).collect();
                Err(format!("`{text}` begins several runs: {}", ids.join(", ")))
            }
        }
    }

    /// The newest log of a stage.
    pub fn last_log(cache: &Cache, file: &Path, stage: &str) -> Option<PathBuf> {
        Self::of(cache, file)
            .into_iter()
            .map(|run| {
                runs(cache).join(run.run).join("logs").join(format!("{}.log", file_name(stage)))
            })
            .find(|path| path.exists())
    }
}

/// Runs of one second are told apart by a number behind the time: 10 comes after 9.
fn newest_first(a: &Path, b: &Path) -> std::cmp::Ordering {
    let key = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut parts = name.splitn(3, '-').map(str::to_owned);
        let time = (parts.next(), parts.next());
        (time, parts.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(1))
    };
    key(b).cmp(&key(a))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{file_name, newest_first};

    #[test]
    fn runs_of_one_second_stand_in_their_order() {
        let mut names = ["20260101-120000-2", "20260101-120000", "20260101-120000-10"];
        names.sort_by(|a, b| newest_first(Path::new(a), Path::new(b)));
        assert_eq!(names, ["20260101-120000-10", "20260101-120000-2", "20260101-120000"]);
    }

    #[test]
    fn no_stage_or_pipeline_is_called_so_that_its_file_lies_elsewhere() {
        assert_eq!(file_name("dpo[beta=0.1]"), "dpo[beta=0.1]");
        assert_eq!(file_name("base/s[lang=中国]"), "base~s[lang=中国]");
        for (name, plain) in
            [("../x y", "_..~x_y"), ("..", "_.."), ("", "_"), ("a\u{300}/~b", "a_~_b")]
        {
            let found = file_name(name);
            assert!(found.starts_with(&format!("{plain}~~")) && found.len() < 40, "{found}");
        }
    }

    #[test]
    fn names_that_differ_have_files_that_differ() {
        let long = "é".repeat(200);
        let names = [
            "a b",
            "a_b",
            "a?b",
            "a/b",
            "a~b",
            "a~~b",
            "",
            "_",
            &format!("{long}1"),
            &format!("{long}2"),
        ];
        let files: std::collections::BTreeSet<String> =
            names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len(), "{files:?}");
        assert!(files.iter().all(|file| file.len() <= 200), "{files:?}");
    }
}
