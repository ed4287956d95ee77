//! What every test of the command line stands on: a throw-away project and the real program in it.
//!
//! Nothing of the person's own environment reaches the program, and what differs from run to run
//! (places, times, names of runs, digests) is filtered out of snapshots.

pub(crate) mod fake_worker;
#[allow(dead_code, reason = "only some test binaries share results")]
pub(crate) mod servers;

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A program that takes longer hangs, unless a test expects it to take long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with `gradus.toml`, a pipeline, and whatever a test puts beside it.
pub(crate) struct Project {
    folder: TempDir,
    environment: Vec<(String, String)>,
    patience: Duration,
    _filters: insta::internals::SettingsBindDropGuard,
}

impl Project {
    /// A project whose `p.yaml` holds `pipeline`, without the indentation that it has in the test.
    pub(crate) fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let project = Self {
            folder,
            environment: Vec::new(),
            patience: PATIENCE,
            _filters: filters(&real).bind_to_scope(),
        };
        project.write("gradus.toml", "");
        // As much of libtorch as the engine looks at before it starts a worker.
        project.write("libtorch/lib/libtorch_cpu.so", "");
        project.write("libtorch/build-version", "2.11.0");
        project.pipeline(pipeline);
        project
    }

    /// Writes another text of the same pipeline.
    pub(crate) fn pipeline(&self, text: &str) {
        self.write("p.yaml", unindented(text));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Sets a variable for every program that is started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Waits longer for programs that are started from now on.
    #[allow(dead_code, reason = "only some test binaries have programs that take long")]
    pub(crate) fn expect_to_take(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gradus"));
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path(""))
            .env("LANG", "C.UTF-8")
            .env("NO_COLOR", "1")
            .env("GRADUS_DEVICE", "cpu")
            .env("LIBTORCH", self.path("libtorch"))
            .envs(fake_worker::environment())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs `gradus` with `arguments` to its end.
    pub(crate) fn gradus(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).wait()
    }

    /// Starts `gradus` and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        let results = BufReader::new(child.stdout.take().unwrap());
        Running { child, results, seen: String::new(), complaints, patience: self.patience }
    }

    /// Runs `gradus run p.yaml --format json` with more arguments: the events and the exit code.
    pub(crate) fn events(&self, arguments: &[&str]) -> Events {
        let mut all = vec!["run", "p.yaml", "--format", "json"];
        all.extend(arguments);
        let ran = self.gradus(&all);
        let list = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Events { code: ran.code, list }
    }

    /// How many processes that stem from this project's commands are alive.
    pub(crate) fn processes(&self) -> usize {
        let home = self.path("").display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let environments = processes.filter_map(|it| fs::read(it.path().join("environ")).ok());
        environments.filter(|it| String::from_utf8_lossy(it).contains(&home)).count()
    }

    /// Every file below a folder of the project.
    pub(crate) fn files_below(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// What a run reported.
pub(crate) struct Events {
    pub(crate) code: Option<i32>,
    pub(crate) list: Vec<Value>,
}

impl Events {
    /// The stages with an event of this name, in the order of the events.
    pub(crate) fn stages(&self, event: &str) -> Vec<&str> {
        self.of(event).filter_map(|it| it["stage"].as_str()).collect()
    }

    /// The stages that were run, sorted: those that are independent come in any order.
    pub(crate) fn ran(&self) -> Vec<&str> {
        let mut stages = self.stages("finished");
        stages.sort_unstable();
        stages
    }

    /// The stages that were found in the cache, sorted.
    pub(crate) fn cached(&self) -> Vec<&str> {
        let mut stages = self.stages("cached");
        stages.sort_unstable();
        stages
    }

    /// What a stage's failure says.
    pub(crate) fn failure(&self, stage: &str) -> &str {
        let failed = self.of("failed").find(|it| it["stage"] == stage);
        failed.and_then(|it| it["message"].as_str()).unwrap()
    }

    pub(crate) fn of(&self, event: &str) -> impl Iterator<Item = &Value> {
        self.list.iter().filter(move |it| it["event"] == event)
    }
}

/// A program under way.
pub(crate) struct Running {
    child: Child,
    results: BufReader<std::process::ChildStdout>,
    seen: String,
    complaints: JoinHandle<String>,
    patience: Duration,
}

impl Running {
    /// Reads results until a line holds `word`.
    pub(crate) fn wait_for(&mut self, word: &str) {
        loop {
            let before = self.seen.len();
            let count = self.results.read_line(&mut self.seen).unwrap();
            assert!(count > 0, "the program ended without `{word}`: {}", self.seen);
            if self.seen[before..].contains(word) {
                return;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn wait(mut self) -> Ran {
        let mut results = self.results;
        let reading = thread::spawn(move || {
            let mut rest = String::new();
            results.read_to_string(&mut rest).unwrap();
            rest
        });
        let status = wait(&mut self.child, self.patience);
        self.seen.push_str(&reading.join().unwrap());
        let stderr = self.complaints.join().unwrap();
        Ran { code: status.code(), stdout: self.seen, stderr }
    }
}

fn wait(child: &mut Child, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program hangs");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a program left behind; shown as a person sees it.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What was printed as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit code {code}")?,
            None => writeln!(f, "killed")?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "--- {name}\n{text}")?;
            }
        }
        Ok(())
    }
}

fn filters(project: &Path) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.add_filter(&project.display().to_string(), "[project]");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[digest]");
    settings.add_filter(r"\b[0-9a-f]{2}/[0-9a-f]{62}\b", "[digest]");
    // In a column, a second run within one second is longer by its number.
    settings.add_filter(r"\b\d{8}-\d{6}(-\d+)? {2,}", "[run]  ");
    settings.add_filter(r"\b\d{8}-\d{6}(-\d+)?\b", "[run]");
    settings.add_filter(r"\b\d+\.\d s( +)", "[time]  ");
    settings.add_filter(r"\b\d+\.\d s\b", "[time]");
    settings.add_filter(r"\b\d{4}-\d{2}-\d{2} \d{2}:\d{2}\b", "[when]");
    settings.add_filter(r#""started": ?\d+"#, r#""started": 0"#);
    settings.add_filter(r#""seconds": ?[0-9.e-]+"#, r#""seconds": 0"#);
    settings
}

/// `text` from its first line on, less the indentation of that line.
fn unindented(text: &str) -> String {
    let text = text.trim_start_matches('\n');
    let indent = text.len() - text.trim_start_matches(' ').len();
    let cut = |line: &str| line.get(indent..).unwrap_or_default().to_owned() + "\n";
    let all: String = text.trim_end_matches(' ').lines().map(cut).collect();
    all
}
