//! A look at the files of a person's own before anything runs: the worker opens them as the stages will, but reads no
//! more than their beginnings.

use std::collections::{BTreeMap, HashMap};

use gradus_protocol::{Input, Job, LOOK, Reply};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    error::RunError,
    plan::{Besides, From, Plan, Stage, Wire},
    run::{
        execution::job::user_source,
        process::{launch::Toolchain, log::Log, stop::Stop, worker::Worker},
        session::Session,
    },
};

/// What a look found.
#[derive(Debug, Default)]
pub struct Looked {
    /// What is wrong, in words, by the stage that reads it.
    pub wrong: Vec<(usize, String)>,
    /// What the files hand on to their stages, as `inputs.NAME.FACT`.
    pub known: Besides,
}

impl Session {
    /// Whether there is something at a stage that the worker can look at: files that it reads, or parameters that it alone
    /// understands.
    pub fn can_look(&self, stage: &Stage) -> bool {
        let own = |wire: &Wire| matches!(wire.from, From::File(_));
        let known = self.catalog.kind(&stage.kind.kind).is_some();
        known && (stage.kind.looks || stage.inputs.iter().any(own))
    }

    /// Has the worker look at the files of these stages.
    pub async fn look_at_files(&self, plan: &Plan, stages: &[usize]) -> Result<Looked, RunError> {
        let toolchain = Toolchain::find(&self.project)?;
        let mut worker =
            Worker::start(toolchain.launch(&self.catalog), "cpu", "cpu", Log::default()).await?;
        let (_stay, mut stop) = watch::channel(Stop::No);
        let mut looked = Looked::default();
        // Variants mostly read the same files.
        let mut seen: HashMap<String, Option<Vec<(String, Value)>>> = HashMap::new();
        for &index in stages {
            let stage = &plan.stages[index];
            let job = self.looking(stage)?;
            let key = json!([job.params, job.inputs]).to_string();
            if let Some(known) = seen.get(&key) {
                looked.known.extend(known.clone().map(|facts| (index, facts)));
                continue;
            }
            let mut facts = Vec::new();
            let hear = |reply| {
                if let Reply::Metric { name, value: Some(value), .. } = reply {
                    facts.push((format!("inputs.{name}"), whole(value)));
                }
            };
            let found = match worker.run(job, &mut stop, hear).await {
                Ok(()) => Some(facts),
                Err(RunError::Stage(words)) => {
                    looked.wrong.push((index, words));
                    None
                }
                Err(error) => return Err(error),
            };
            looked.known.extend(found.clone().map(|facts| (index, facts)));
            seen.insert(key, found);
        }
        Ok(looked)
    }

    /// The stage's parameters, and those of its inputs that are files.
    fn looking(&self, stage: &Stage) -> Result<Job, RunError> {
        let mut inputs: BTreeMap<String, Vec<Input>> = BTreeMap::new();
        for wire in &stage.inputs {
            let From::File(path) = &wire.from else { continue };
            let source = user_source(&self.cache, path, &stage.conduct.ignore)?;
            inputs
                .entry(wire.port.clone())
                .or_default()
                .push(Input { label: String::new(), source });
        }
        let params = if stage.kind.looks { &stage.params } else { &Value::Null };
        Ok(Job {
            kind: LOOK.to_owned(),
            params: json!({ "kind": stage.kind.kind, "params": params }),
            inputs,
            outputs: BTreeMap::new(),
            seed: 0,
            threads: self.devices.threads,
            checkpoints: None,
            ledger: None,
        })
    }
}

/// Counts are whole numbers, and shown as such.
fn whole(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it is looked whether it is exact")]
    let count = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "it is looked whether it is exact")]
    let same = (count as f64 - value).abs() < f64::EPSILON;
    if same { json!(count) } else { json!(value) }
}
