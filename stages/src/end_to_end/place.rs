//! A folder in which stages run one behind the other, as the engine would run them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use gradus_protocol::{Checkpoints, Input, Job, Reply, Source};
use serde_json::{Value, json};

use crate::{context::Context, families::find};

/// A place where stages leave their outputs.
pub(super) struct Place {
    pub(super) root: PathBuf,
    /// The kinds that ran here.
    pub(super) ran: RefCell<BTreeSet<String>>,
    /// Where what is computed row by row is kept.
    pub(super) ledger: RefCell<Option<PathBuf>>,
    /// Where the state of a training is kept.
    pub(super) checkpoints: RefCell<Option<PathBuf>>,
}

fn source(path: &Path) -> Source {
    if path.is_file() {
        return Source::File(path.to_owned());
    }
    let files = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    Source::Tree(files.map(|f| (f.file_name().into_string().unwrap(), f.path())).collect())
}

impl Place {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            ran: RefCell::default(),
            ledger: RefCell::default(),
            checkpoints: RefCell::default(),
        }
    }

    /// Runs a stage as the engine would; gives the summary. `inputs` are `port=stage.output`.
    pub(super) fn run(
        &self,
        name: &str,
        kind: &str,
        params: Value,
        inputs: &[&str],
    ) -> BTreeMap<String, f64> {
        self.tried(name, kind, params, inputs).unwrap()
    }

    /// The same; a stage that gives up says why.
    pub(super) fn tried(
        &self,
        name: &str,
        kind: &str,
        params: Value,
        inputs: &[&str],
    ) -> Result<BTreeMap<String, f64>, String> {
        let stage = find(kind).unwrap();
        self.ran.borrow_mut().insert(kind.to_owned());
        let mut given: BTreeMap<String, Vec<Input>> = BTreeMap::new();
        for edge in inputs {
            let (port, from) = edge.split_once('=').unwrap();
            let source = source(&self.root.join(from));
            let input = Input { label: from.to_owned(), source };
            given.entry(port.to_owned()).or_default().push(input);
        }
        let outputs = (stage.describe)().outputs;
        let output = |port: String| (port.clone(), self.root.join(format!("{name}.{port}")));
        let job = Job {
            kind: kind.to_owned(),
            params,
            inputs: given,
            outputs: outputs.into_iter().map(|port| output(port.name)).collect(),
            seed: 7,
            threads: 1,
            checkpoints: None,
            ledger: None,
        };
        let heard = Arc::new(Mutex::new(BTreeMap::new()));
        let hear = heard.clone();
        let send = Box::new(move |reply| {
            if let Reply::Metric { name, step: None, value } = reply {
                hear.lock().unwrap().insert(name, value.unwrap_or(f64::NAN));
            }
        });
        let mut context = Context::new(job.seed, tch::Device::Cpu, Arc::default(), send);
        context.ledger.clone_from(&self.ledger.borrow());
        context.checkpoints = self.checkpoints.borrow().as_ref().map(|folder| Checkpoints {
            folder: folder.clone(),
            every_steps: Some(1),
            every_seconds: 1e9,
            keep_last: true,
            anew: false,
        });
        let started = std::time::Instant::now();
        (stage.run)(&job, &mut context).map_err(|error| error.to_string())?;
        let summary = heard.lock().unwrap().clone();
        println!("{name}: {:.1?} {summary:?}", started.elapsed());
        Ok(summary)
    }
}

pub(super) fn small_world(rows: &[Value], load: &Value) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let path = folder.path().join("rows.jsonl");
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let mut params = json!({ "path": path, "format": "preference" });
    params.as_object_mut().unwrap().extend(load.as_object().unwrap().clone());
    place.run("data", "data.load", params, &[]);
    place.run("bytes", "data.tokenizer", json!({ "vocab_size": 258 }), &["rows=data.train"]);
    let shape = json!({ "hidden_size": 8, "layers": 1, "heads": 2, "context_length": 64 });
    place.run("fresh", "model.init", shape, &["tokenizer=bytes.tokenizer"]);
    (folder, place)
}

/// The files below a folder with their bytes.
pub(super) fn bytes_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

pub(super) fn files_below(root: &Path) -> usize {
    if root.exists() { bytes_below(root).len() } else { 0 }
}
