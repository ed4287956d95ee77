//! A program of a person's own that answers lines of JSON: a judge, a world.
//!
//! Every request is an object with an `id`, and so is its answer; answers may come in any order. Nothing is said twice: a
//! program that dies, or that says nothing for too long, is started anew and asked what it has not answered, and only that.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use gradus_protocol::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{artifact::json::Object, error::StageError, port::file_of};

/// How often it is looked whether a person asked for an end.
const TICK: Duration = Duration::from_millis(100);
/// A program that is no longer needed ends by itself within this, or is ended.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of an answer, at most.
const LONGEST: u64 = 1 << 26;
/// Lines of what it complained of that are shown.
const COMPLAINTS: usize = 8;
/// What it finds in its environment, beside `LANG`.
const KEPT: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// How a program is run and waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    /// The words before the program: `[python3]`. Without any it is run itself, and its first line says by what: `#!/bin/sh`.
    #[serde(default)]
    command: Vec<String>,
    /// The words behind it.
    #[serde(default)]
    arguments: Vec<String>,
    /// Seconds without an answer after which it is started anew.
    #[serde(default = "minute")]
    #[schemars(range(min = 0.01))]
    seconds: f64,
    /// How often it is asked the same, until it is given up.
    #[serde(default = "thrice")]
    #[schemars(range(min = 1))]
    tries: usize,
    /// Variables of yours that it finds in its environment, a key of a server say. No other reaches it.
    #[serde(default)]
    secrets: Vec<String>,
}

fn minute() -> f64 {
    60.0
}
fn thrice() -> usize {
    3
}

impl Default for Running {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            arguments: Vec::new(),
            seconds: minute(),
            tries: thrice(),
            secrets: Vec::new(),
        }
    }
}

impl Running {
    /// What its answers hang on: how often and how long it is waited for is not among it.
    pub(crate) fn words(&self) -> [&[String]; 2] {
        [&self.command, &self.arguments]
    }
}

/// A program that is asked.
pub(crate) struct Program {
    /// What it is to the stage, the input that it came in by.
    role: &'static str,
    running: Running,
    /// A copy of it, which may be run.
    folder: TempDir,
    child: Option<Talking>,
    /// The first `id` that was not given out.
    next: u64,
}

/// One process of it.
struct Talking {
    child: Child,
    /// `None` once it is told that nothing more comes.
    requests: Option<Sender<String>>,
    answers: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

/// Why answers stopped coming.
enum Stop {
    /// Another try may help.
    Gone(String),
    Whole(StageError),
}

impl From<StageError> for Stop {
    fn from(error: StageError) -> Self {
        Self::Whole(error)
    }
}

impl Program {
    /// The program that came in as `role`; it is started when it is asked first.
    pub(crate) fn place(
        role: &'static str,
        source: &Source,
        running: &Running,
    ) -> Result<Self, StageError> {
        let came = file_of(source)?;
        let folder = TempDir::new().map_err(StageError::file(&std::env::temp_dir()))?;
        let own = folder.path().join(role);
        fs::copy(came, &own).map_err(StageError::file(came))?;
        let permissions = Permissions::from_mode(0o700);
        fs::set_permissions(&own, permissions).map_err(StageError::file(&own))?;
        Ok(Self { role, running: running.clone(), folder, child: None, next: 0 })
    }

    /// Asks it all of `requests` at once. `answered` hears what it said to each, by its place, as it comes; `heard` ends the
    /// waiting.
    pub(crate) fn ask(
        &mut self,
        requests: Vec<Object>,
        answered: &mut dyn FnMut(usize, Object) -> Result<(), StageError>,
        heard: &mut dyn FnMut() -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let first = self.next;
        self.next += requests.len() as u64;
        let line = |(id, mut request): (u64, Object)| {
            request.insert("id".to_owned(), json!(id));
            (id, Value::Object(request).to_string() + "\n")
        };
        let mut open: BTreeMap<u64, String> = (first..).zip(requests).map(line).collect();
        let mut tries = 0;
        while !open.is_empty() {
            let before = open.len();
            let mut answered = |id: u64, answer| {
                let place = usize::try_from(id - first).unwrap_or(usize::MAX);
                answered(place, answer)
            };
            let stopped = self.answers(&mut open, &mut answered, heard);
            let words = match stopped {
                Ok(()) => continue,
                Err(Stop::Whole(error)) => {
                    self.child = None;
                    return Err(error);
                }
                Err(Stop::Gone(words)) => words,
            };
            let complaints = self.child.take().map(Talking::complaints).unwrap_or_default();
            tries = if open.len() < before { 1 } else { tries + 1 };
            if tries >= self.running.tries {
                return Err(StageError::refused(format!(
                    "`{}`: {words}, {tries} times without an answer to {} of its requests{complaints}",
                    self.role,
                    open.len()
                )));
            }
            tracing::warn!("`{}`: {words}; it is started anew{complaints}", self.role);
        }
        Ok(())
    }

    fn answers(
        &mut self,
        open: &mut BTreeMap<u64, String>,
        answered: &mut dyn FnMut(u64, Object) -> Result<(), StageError>,
        heard: &mut dyn FnMut() -> Result<(), StageError>,
    ) -> Result<(), Stop> {
        let patience = Duration::try_from_secs_f64(self.running.seconds).unwrap_or(Duration::MAX);
        let child = match &mut self.child {
            Some(child) => child,
            none => none.insert(start(self.role, &self.running, self.folder.path())?),
        };
        for line in open.values() {
            // One that is gone is noticed when it does not answer.
            let _ = child.requests.as_ref().map(|it| it.send(line.clone()));
        }
        let mut last = Instant::now();
        while !open.is_empty() {
            heard()?;
            let line = match child.answers.recv_timeout(TICK.min(patience)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) if last.elapsed() < patience => continue,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.running.seconds;
                    return Err(Stop::Gone(format!("it said nothing for {seconds} seconds")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = child.child.wait();
                    let how = ended.map_or_else(|it| it.to_string(), |it| it.to_string());
                    return Err(Stop::Gone(format!("it ended with {how}")));
                }
            };
            let (id, answer) = read(self.role, &line)?;
            if let Some(words) = answer.get("error") {
                return Err(Stop::Gone(format!("it could not answer: {words}")));
            }
            if open.remove(&id).is_none() {
                let words = format!("it answers {id}, which it is not asked");
                return Err(Stop::Whole(wrong(self.role, &words)));
            }
            last = Instant::now();
            answered(id, answer)?;
        }
        Ok(())
    }
}

fn read(role: &str, line: &str) -> Result<(u64, Object), StageError> {
    let value: Option<Value> = serde_json::from_str(line).ok();
    let Some(Value::Object(mut answer)) = value else {
        return Err(wrong(role, &format!("it says {}, and no JSON object", shown(line))));
    };
    let id = answer.shift_remove("id").and_then(|it| it.as_u64());
    let id = id.ok_or_else(|| {
        wrong(role, &format!("it says {}, without the `id` of a request", shown(line)))
    })?;
    Ok((id, answer))
}

/// The number that an answer has by a name.
pub(crate) fn number(role: &str, answer: &Object, name: &str) -> Result<f64, StageError> {
    let value = answer.get(name).and_then(Value::as_f64);
    value.ok_or_else(|| {
        let said = Value::Object(answer.clone()).to_string();
        wrong(role, &format!("it says {}, without a number `{name}`", shown(&said)))
    })
}

fn wrong(role: &str, words: &str) -> StageError {
    StageError::refused(format!("`{role}`: {words}; docs/programs.md says how it is to answer"))
}

/// The beginning of what was said.
fn shown(line: &str) -> String {
    let start: String = line.trim_end().chars().take(200).collect();
    format!("`{start}`")
}

fn start(role: &str, running: &Running, folder: &Path) -> Result<Talking, StageError> {
    let own = folder.join(role);
    let words: Vec<&str> = running.command.iter().map(String::as_str).collect();
    let (program, before) = match words.split_first() {
        Some((program, before)) => (Path::new(*program), before),
        None => (own.as_path(), &[][..]),
    };
    let mut command = Command::new(program);
    command.args(before).args((!words.is_empty()).then_some(&own)).args(&running.arguments);
    command.current_dir(folder).env_clear().env("LANG", "C.UTF-8");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let secrets = running.secrets.iter().map(String::as_str);
    for name in KEPT.into_iter().chain(secrets.clone()) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(missing) = secrets.clone().find(|name| std::env::var_os(name).is_none()) {
        return Err(StageError::refused(format!(
            "`{role}` needs the variable `{missing}`, which is not set: set it where gradus is started"
        )));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let what = program.display();
        let help = if words.is_empty() {
            ": its first line says by what it is run, or `command` does, `[python3]` say"
        } else {
            ""
        };
        StageError::refused(format!("`{role}` cannot be run, `{what}`: {error}{help}"))
    })?;
    let (requests, own_requests) = channel::<String>();
    let (own_answers, answers) = channel();
    let complaints = Arc::new(Mutex::new(VecDeque::new()));
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || {
            for line in own_requests {
                if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
    }
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || each_line(stdout, |line| own_answers.send(line).is_ok()));
    }
    if let Some(stderr) = child.stderr.take() {
        let kept = complaints.clone();
        thread::spawn(move || {
            each_line(stderr, |line| {
                tracing::info!("{}", line.trim_end());
                if let Ok(mut kept) = kept.lock() {
                    kept.push_back(line);
                    if kept.len() > COMPLAINTS {
                        kept.pop_front();
                    }
                }
                true
            });
        });
    }
    Ok(Talking { child, requests: Some(requests), answers, complaints })
}

/// Every line with something on it, until `take` wants no more.
fn each_line(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                if !line.trim().is_empty() && !take(line) {
                    break;
                }
            }
        }
    }
}

impl Talking {
    /// Ends it, and says what it complained of last.
    fn complaints(mut self) -> String {
        self.end();
        let lines = self.complaints.lock().map(|it| it.iter().cloned().collect::<String>());
        let lines = lines.unwrap_or_default();
        if lines.trim().is_empty() { String::new() } else { format!(":\n{}", lines.trim_end()) }
    }

    fn end(&mut self) {
        self.requests = None;
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(TICK / 10),
                _ => return,
            }
        }
        // It may be gone by now, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(place: &Path, text: &str, running: Value) -> Program {
        let path = place.join("judge");
        fs::write(&path, text).unwrap();
        let running = serde_json::from_value(running).unwrap();
        Program::place("judge", &Source::File(path), &running).unwrap()
    }

    fn asked(program: &mut Program, count: u64) -> Result<Vec<f64>, String> {
        let request = |n: u64| match json!({ "n": n }) {
            Value::Object(request) => request,
            _ => Object::new(),
        };
        let mut found = vec![f64::NAN; usize::try_from(count).unwrap()];
        let mut answered = |place: usize, answer: Object| {
            found[place] = number("judge", &answer, "reward")?;
            Ok(())
        };
        let requests = (0..count).map(request).collect();
        let asked = program.ask(requests, &mut answered, &mut || Ok(()));
        asked.map(|()| found).map_err(|error| error.to_string())
    }

    /// Answers twice the number that it is asked, two requests in turned order.
    const TURNED: &str = r#"#!/usr/bin/env python3
import json, sys
held = []
for line in sys.stdin:
    held.append(json.loads(line))
    if len(held) == 2:
        for it in reversed(held):
            print(json.dumps({"id": it["id"], "reward": 2 * it["n"]}), flush=True)
        held = []
"#;

    #[test]
    fn answers_come_in_any_order_and_go_where_they_belong() {
        let place = tempfile::tempdir().unwrap();
        let mut program = program(place.path(), TURNED, json!({}));
        assert_eq!(asked(&mut program, 4), Ok(vec![0.0, 2.0, 4.0, 6.0]));
        assert_eq!(asked(&mut program, 2), Ok(vec![0.0, 2.0]));
    }

    #[test]
    fn who_dies_or_is_silent_is_asked_again_what_is_open_and_given_up_in_the_end() {
        let place = tempfile::tempdir().unwrap();
        // Dies behind every third answer, and remembers in a file how often.
        let dies = format!(
            r#"
import json, sys
for number, line in enumerate(sys.stdin):
    it = json.loads(line)
    with open({:?}, "a") as log: log.write("%d " % it["n"])
    print(json.dumps({{"id": it["id"], "reward": it["n"]}}), flush=True)
    if number == 2: sys.exit(3)
"#,
            place.path().join("log")
        );
        let mut dying = program(place.path(), &dies, json!({ "command": ["python3"] }));
        assert_eq!(asked(&mut dying, 7).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let log = fs::read_to_string(place.path().join("log")).unwrap();
        assert_eq!(log, "0 1 2 3 4 5 6 ");
        let silent = json!({ "command": ["/bin/sh", "-c", "echo tired >&2; exec sleep 60"], "seconds": 0.2, "tries": 2 });
        let words = asked(&mut program(place.path(), "", silent), 3).unwrap_err();
        assert!(words.contains("said nothing for 0.2 seconds, 2 times"), "{words}");
        assert!(words.contains("3 of its requests:\ntired"), "{words}");
        let dead = json!({ "command": ["/bin/sh", "-c", "exit 7"], "tries": 1 });
        let words = asked(&mut program(place.path(), "", dead), 1).unwrap_err();
        assert!(words.contains("it ended with exit status: 7"), "{words}");
    }

    #[test]
    fn what_is_no_answer_is_shown() {
        let place = tempfile::tempdir().unwrap();
        let says = |line: &str| {
            let text = format!("#!/bin/sh\nread -r line\necho '{line}'\nread -r line\n");
            asked(&mut program(place.path(), &text, json!({})), 1).unwrap_err()
        };
        assert!(says("good").contains("it says `good`, and no JSON object"));
        assert!(says(r#"{"reward": 1}"#).contains("without the `id` of a request"));
        assert!(says(r#"{"id": 9, "reward": 1}"#).contains("answers 9, which it is not asked"));
        assert!(says(r#"{"id": 0, "score": 1}"#).contains("without a number `reward`"));
        let lacks = json!({ "command": ["sh"], "secrets": ["NO_SUCH_KEY"] });
        let words = asked(&mut program(place.path(), "", lacks), 1).unwrap_err();
        assert!(words.contains("needs the variable `NO_SUCH_KEY`"), "{words}");
        let words =
            asked(&mut program(place.path(), "judge", json!({ "command": ["no-such"] })), 1);
        assert!(words.unwrap_err().contains("`judge` cannot be run, `no-such`"));
    }
}
