//! A plan: all stages of a pipeline, and what a person can ask for by name.

use std::path::PathBuf;

use super::{
    axes::names,
    snapshot::Snapshot,
    stage::{From, Stage},
    when::LeftOut,
};
use crate::spec::{Mistake, Mistakes, Overrides, Problem, nearest};

/// A checked pipeline. Stages stand in an order in which they can run.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    /// The pipeline's file, by its absolute path: what tells it from another of the same name.
    pub file: PathBuf,
    pub stages: Vec<Stage>,
    /// What `when` leaves out, in the order of the file.
    pub left_out: Vec<LeftOut>,
    /// The files that it includes.
    pub included: Vec<PathBuf>,
    /// What it was read from.
    pub asked: Overrides,
    /// What is no mistake, but is mostly meant otherwise.
    pub warnings: Vec<Mistake>,
    /// What a test of the pipeline compares.
    pub snapshots: Vec<Snapshot>,
}

impl Plan {
    /// What the cache remembers the pipeline by.
    pub(crate) fn key(&self) -> std::borrow::Cow<'_, str> {
        self.file.to_string_lossy()
    }

    /// Those that `targets` name (by stage or instance), and all that they need. All, for no targets.
    pub fn select(&self, targets: &[String]) -> Result<Vec<usize>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut wanted = vec![targets.is_empty(); self.stages.len()];
        for target in targets {
            let is_meant = |stage: &Stage| names(target, &stage.id);
            if self.stages.iter().any(is_meant) {
                // Those of its variants that are left out are not asked for.
            } else if let Some(left_out) = self.left_out.iter().find(|it| names(target, &it.id)) {
                mistakes.add_unplaced(Problem::TargetLeftOut {
                    name: target.clone(),
                    because: left_out.because.clone(),
                });
            } else {
                let all = self.stages.iter().flat_map(|it| [it.spec.as_str(), it.id.as_str()]);
                let mut known: Vec<_> = self.stages.iter().map(|it| it.spec.as_str()).collect();
                known.dedup();
                mistakes.add_unplaced(Problem::UnknownTarget {
                    name: target.clone(),
                    nearest: nearest(target, all),
                    known: known.join(", "),
                });
            }
            for (i, stage) in self.stages.iter().enumerate().filter(|(_, stage)| is_meant(stage)) {
                tracing::debug!(stage = stage.id, "wanted");
                wanted[i] = true;
            }
        }
        mistakes.or(self.closed(wanted))
    }

    /// These stages and all that they need.
    pub fn with_sources(&self, stages: &[usize]) -> Vec<usize> {
        let mut wanted = vec![false; self.stages.len()];
        for index in stages {
            wanted[*index] = true;
        }
        self.closed(wanted)
    }

    fn closed(&self, mut wanted: Vec<bool>) -> Vec<usize> {
        // Behind each stage come only stages that it needs no more, so one pass backwards is enough.
        for i in (0..self.stages.len()).rev() {
            if wanted[i] {
                for source in self.stages[i].sources() {
                    wanted[source] = true;
                }
            }
        }
        (0..self.stages.len()).filter(|i| wanted[*i]).collect()
    }

    /// What the pipeline is for, as (stage, position of the output): outputs that no stage reads, and
    /// models that no other model is made from.
    pub fn final_outputs(&self) -> Vec<(usize, usize)> {
        let is_model =
            |port_type: &str| matches!(port_type, "model" | "preference_model" | "reward_model");
        let makes_models = |stage: &Stage| stage.output_types.iter().any(|it| is_model(it));
        let mut used = std::collections::HashSet::new();
        for reader in &self.stages {
            for wire in &reader.inputs {
                let From::Stage(index, output) = &wire.from else { continue };
                let outputs = &self.stages[*index].kind.outputs;
                let Some(port) = outputs.iter().position(|port| port.name == *output) else {
                    continue;
                };
                let judged = is_model(&self.stages[*index].output_types[port]);
                if !judged || makes_models(reader) {
                    used.insert((*index, port));
                }
            }
        }
        let all = self.stages.iter().enumerate();
        let all =
            all.flat_map(|(i, stage)| (0..stage.kind.outputs.len()).map(move |port| (i, port)));
        all.filter(|output| !used.contains(output)).collect()
    }
}
