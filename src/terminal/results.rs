//! What a run put out: reports in full, and where models and plots lie.

use std::{collections::BTreeSet, fs, path::Path};

use gradus_cache::{Cache, Form};
use gradus_engine::{
    plan::{From, Plan},
    run::{RunRecord, StageRecord},
};
use serde_json::json;

use super::{
    Terminal,
    paint::{duration, harmless, number, pad, size},
};

/// A report longer than this is named, not printed.
const LONGEST_REPORT: u64 = 64 << 10;

impl Terminal {
    /// Prints the reports of a run's last stages, and how to get at its models and plots.
    pub(crate) fn results(&self, plan: &Plan, record: &RunRecord, cache: &Cache, file: &Path) {
        if self.json {
            return;
        }
        let read: BTreeSet<(usize, &str)> = plan
            .stages
            .iter()
            .flat_map(|stage| &stage.inputs)
            .filter_map(|wire| match &wire.from {
                From::Stage(index, output) => Some((*index, output.as_str())),
                From::File(_) => None,
            })
            .collect();
        let mut rows = Vec::new();
        for (index, stage) in plan.stages.iter().enumerate() {
            let Some(done) = record.stages.iter().find(|it| it.stage == stage.id) else { continue };
            for (port, port_type) in stage.kind.outputs.iter().zip(&stage.output_types) {
                let Some(artifact) = done.outputs.get(&port.name) else { continue };
                let last = !read.contains(&(index, port.name.as_str()));
                match port_type.as_str() {
                    "report" if last && artifact.bytes <= LONGEST_REPORT => {
                        if let Ok(text) = fs::read_to_string(cache.file(&artifact.digest)) {
                            self.line("");
                            self.text(&harmless(&text));
                        }
                    }
                    "model" | "reward_model" | "plot" if last || port_type == "model" => {
                        rows.push((stage.id.as_str(), port.name.as_str(), artifact.bytes));
                    }
                    _ => {}
                }
            }
        }
        if rows.is_empty() {
            return;
        }
        self.line(&format!("\n{}", self.out.bold("To have them as plain files:")));
        for (stage, port, bytes) in rows {
            let what = format!("{stage}.{port}");
            let words = format!("  gradus export {} '{what}' DIR", file.display());
            self.line(&format!("{words}  {}", self.out.dim(&format!("({})", size(bytes)))));
        }
    }

    /// A run, stage by stage.
    pub(crate) fn record(&self, record: &RunRecord) {
        if self.json {
            return self.value(record);
        }
        let width = record.stages.iter().map(|it| it.stage.chars().count()).max().unwrap_or(0);
        self.line(&format!("run {} of {}", self.out.bold(&record.run), record.pipeline));
        for stage in &record.stages {
            let status = json!(stage.status).as_str().unwrap_or_default().to_owned();
            let took = if stage.seconds > 0.0 { duration(stage.seconds) } else { String::new() };
            let metrics = stage.metrics.iter().map(|(name, value)| {
                format!("{name} {}", value.map_or_else(|| "not finite".to_owned(), number))
            });
            let line = format!(
                "{}  {}  {}  {}",
                pad(&stage.stage, width),
                pad(&status, 8),
                pad(&took, 10),
                metrics.collect::<Vec<_>>().join("  "),
            );
            self.line(line.trim_end());
        }
    }

    /// Stages of a run with everything that is known about them.
    pub(crate) fn stages_of_record(&self, stages: &[&StageRecord], cache: &Cache) {
        if self.json {
            return self.value(&stages);
        }
        for stage in stages {
            self.line(&format!("{}  {}", self.out.bold(&stage.stage), self.out.dim(&stage.kind)));
            if let Some(fingerprint) = &stage.fingerprint {
                self.line(&format!("  fingerprint  {fingerprint}"));
            }
            for (name, value) in &stage.metrics {
                let value = value.map_or_else(|| "not finite".to_owned(), number);
                self.line(&format!("  {}  {value}", pad(name, 28)));
            }
            for (port, artifact) in &stage.outputs {
                let form = if artifact.form == Form::Tree { "folder" } else { "file" };
                self.line(&format!(
                    "  {port}: {form}, {}, {}",
                    size(artifact.bytes),
                    cache.file(&artifact.digest).display()
                ));
            }
            if let Some(message) = &stage.message {
                self.line(&format!("  {}", harmless(message)));
            }
        }
    }
}
