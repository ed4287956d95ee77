//! A worker without tensors: it speaks the protocol's frames and writes small texts as outputs.
//!
//! It is a test of this very binary that the engine starts through `fake_worker.sh`, so that a plain
//! `cargo test` needs no second program. `FAKE_WORKER` says what it is to do wrong, and for which kind:
//! `data.split=exit 3`; `hello` stands for its first frame.
#![expect(clippy::print_stderr, reason = "a worker's log is its stderr")]

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Stdin, Write as _},
    os::fd::FromRawFd,
    process::{Command, exit},
    thread,
    time::Duration,
};

use gradus_protocol::{
    Cause, Checkpoint, Checkpoints, Job, LOOK, Reply, Request, Source, TAKE, VERSION,
    catalog::Catalog, read_frame, write_frame,
};

const CATALOG: &str = include_str!("../../stages/catalog.json");

/// What makes `gradus` start this worker.
pub(crate) fn environment() -> [(&'static str, String); 2] {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_worker.sh");
    let program = env::current_exe().unwrap();
    [
        ("GRADUS_WORKER", script.to_owned()),
        ("FAKE_WORKER_PROGRAM", program.to_str().unwrap().to_owned()),
    ]
}

#[test]
#[ignore = "started by the engine, not by hand"]
fn serve() {
    // Whoever runs all that is ignored has not opened the descriptor.
    if env::var_os("FAKE_WORKER_PROGRAM").is_none() {
        return;
    }
    // SAFETY: the script that starts this program opened the descriptor for it alone.
    let frames = unsafe { File::from_raw_fd(3) };
    let mut worker = Worker { requests: io::stdin(), frames };
    worker.hello();
    while let Some(request) = read_frame::<Request>(&mut worker.requests).unwrap() {
        if let Request::Run(job) = request {
            worker.run(&job);
        }
    }
    exit(0);
}

struct Worker {
    requests: Stdin,
    frames: File,
}

impl Worker {
    fn say(&mut self, reply: &Reply) {
        write_frame(&mut self.frames, reply).unwrap();
    }

    fn hello(&mut self) {
        let mut catalog: Catalog = serde_json::from_str(CATALOG).unwrap();
        let mut protocol = VERSION;
        let mut device_class = "cpu";
        match behaviour("hello").as_deref() {
            Some("other version") => protocol += 1,
            Some("other catalogue") => catalog.kinds[0].revision += 1,
            Some("other device") => device_class = "cuda Fake GPU",
            Some(word) => self.misbehave(word),
            None => {}
        }
        let device = "cpu".to_owned();
        let device_class = device_class.to_owned();
        self.say(&Reply::Hello { protocol, catalog, device, device_class });
    }

    fn run(&mut self, job: &Job) {
        eprintln!("{} begins", job.kind);
        if job.kind == TAKE {
            let refused =
                behaviour(TAKE).and_then(|it| it.strip_prefix("fail ").map(str::to_owned));
            return self.say(&match refused {
                Some(message) => Reply::Failed { cause: Cause::Stage, message },
                None => Reply::Done,
            });
        }
        if job.kind == LOOK {
            return self.look();
        }
        let behaviour = behaviour(&job.kind).unwrap_or_default();
        let (word, rest) = behaviour.split_once(' ').unwrap_or((&behaviour, ""));
        let left_out = if word == "omit" { rest } else { "" };
        match word {
            "fail" | "crash" => {
                let cause = if word == "fail" { Cause::Stage } else { Cause::Crash };
                return self.say(&Reply::Failed { cause, message: rest.to_owned() });
            }
            "wait" => return self.wait_for_cancel(false),
            "save" => return self.wait_for_cancel(true),
            "report" => self.report(),
            "measure" => {
                let (name, value) = ("score".to_owned(), Some(rest.parse().unwrap()));
                self.say(&Reply::Metric { name, step: None, value });
            }
            "tell" => {
                let (name, value) = rest.split_once(' ').unwrap();
                let (name, value) = (name.to_owned(), Some(value.parse().unwrap()));
                self.say(&Reply::Metric { name, step: None, value });
            }
            "process" => {
                let value = Some(f64::from(std::process::id()));
                self.say(&Reply::Metric { name: "process".to_owned(), step: None, value });
            }
            "" | "omit" => {}
            _ => self.misbehave(&behaviour),
        }
        for (port, path) in job.outputs.iter().filter(|(port, _)| *port != left_out) {
            fs::write(path, content(job, port)).unwrap();
        }
        if let Some(checkpoints) = job.checkpoints.as_ref().filter(|it| it.keep_last) {
            keep_last(job, checkpoints);
        }
        self.say(&Reply::Done);
    }

    /// `fail WORDS` or `tell NAME NUMBER`.
    fn look(&mut self) {
        let behaviour = behaviour(LOOK).unwrap_or_default();
        let mut words = behaviour.splitn(2, ' ');
        match (words.next(), words.next()) {
            (Some("fail"), Some(message)) => {
                let message = message.to_owned();
                return self.say(&Reply::Failed { cause: Cause::Stage, message });
            }
            (Some("tell"), Some(fact)) => {
                let (name, value) = fact.split_once(' ').unwrap();
                let (name, value) = (name.to_owned(), Some(value.parse().unwrap()));
                self.say(&Reply::Metric { name, step: None, value });
            }
            _ => {}
        }
        self.say(&Reply::Done);
    }

    fn report(&mut self) {
        for step in 1..=2_u8 {
            let note = format!("loss 0.{step}");
            let (done, unit) = (u64::from(step), "steps".to_owned());
            self.say(&Reply::Progress { done, total: 2, unit, note });
            let (name, value) = ("loss".to_owned(), Some(f64::from(step) / 8.0));
            self.say(&Reply::Metric { name, step: Some(done), value });
        }
        self.say(&Reply::Alive);
        for (name, value) in [("accuracy", Some(0.75)), ("perplexity", None)] {
            self.say(&Reply::Metric { name: name.to_owned(), step: None, value });
        }
    }

    fn wait_for_cancel(&mut self, saves: bool) {
        let (unit, note) = ("steps".to_owned(), "waits".to_owned());
        self.say(&Reply::Progress { done: 0, total: 1, unit, note });
        while let Some(request) = read_frame(&mut self.requests).unwrap() {
            if matches!(request, Request::Cancel) {
                if saves {
                    // For longer than one that does not say so is waited for.
                    self.say(&Reply::Saving);
                    std::thread::sleep(std::time::Duration::from_secs(6));
                }
                eprintln!("cancelled as asked");
                let message = "cancelled".to_owned();
                return self.say(&Reply::Failed { cause: Cause::Cancelled, message });
            }
        }
    }

    fn misbehave(&mut self, behaviour: &str) {
        match behaviour.split_once(' ').unwrap_or((behaviour, "")) {
            ("exit", code) => {
                eprintln!("these are the last words");
                exit(code.parse().unwrap());
            }
            ("signal", name) => {
                let own = std::process::id().to_string();
                // Against the first SIGSEGV Rust has a handler of its own, which it then takes away;
                // a second that comes too early is not counted.
                loop {
                    let kill = ["-c", "kill -s \"$0\" \"$1\"", name, &own];
                    Command::new("sh").args(kill).status().unwrap();
                    thread::sleep(Duration::from_millis(20));
                }
            }
            ("print", text) => self.frames.write_all(text.as_bytes()).unwrap(),
            ("deaf", _) => {
                let (unit, note) = ("steps".to_owned(), "hears nothing".to_owned());
                self.say(&Reply::Progress { done: 0, total: 1, unit, note });
                thread::sleep(Duration::from_mins(1));
            }
            _ => panic!("a fake worker cannot `{behaviour}`"),
        }
    }
}

/// Keeps a state without anything in it, for the engine to find.
fn keep_last(job: &Job, checkpoints: &Checkpoints) {
    let step = job.params["steps"].as_u64().unwrap();
    let place = Checkpoint::place(&checkpoints.folder, step);
    fs::create_dir_all(&place).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a small number of steps")]
    let reached = [("steps".to_owned(), step as f64)].into();
    Checkpoint::new(step, reached, BTreeMap::new()).write(&place).unwrap();
}

/// What `FAKE_WORKER` says about `kind`.
fn behaviour(kind: &str) -> Option<String> {
    let all = env::var("FAKE_WORKER").ok()?;
    let mut rules = all.split(';').filter_map(|rule| rule.split_once('='));
    rules.find(|(of, _)| *of == kind).map(|(_, behaviour)| behaviour.to_owned())
}

/// A text that changes with everything that an honest stage would read.
fn content(job: &Job, port: &str) -> String {
    let mut text = format!("{port} of {}\n", job.kind);
    for input in job.inputs.values().flatten() {
        let bytes: BTreeMap<_, _> = match &input.source {
            Source::File(path) => [("", fs::read(path).unwrap())].into(),
            Source::Tree(files) => {
                files.iter().map(|(name, path)| (&**name, fs::read(path).unwrap())).collect()
            }
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        writeln!(text, "reads {} ({:016x})", input.label, hasher.finish()).unwrap();
    }
    let parameters = job.params.as_object().into_iter().flatten();
    for (name, value) in parameters.filter(|(name, _)| *name != "path") {
        writeln!(text, "{name} = {value}").unwrap();
    }
    if let Some(path) = job.params["path"].as_str() {
        text += &fs::read_to_string(path).unwrap();
    }
    text
}
