//! How long a run would take, from what its stages took before.

use std::collections::{BTreeMap, HashMap};

use super::preview::{Preview, State};
use crate::{
    plan::Plan,
    run::{
        history::{History, Status},
        session::Session,
    },
};

/// Of so many runs, the newest first, the times are looked at.
const RUNS: usize = 50;

/// What is to be expected of a run. A training that is longer now than it was, or goes on from where it stood, takes
/// another time.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// With as many stages at once as the machine has room for.
    pub seconds: f64,
    /// Stages that would run and of which no time is known.
    pub unknown: Vec<String>,
}

impl Session {
    /// What `previews` come to; `None` where nothing would run. A stage of which it is not known yet whether it runs
    /// counts as one that does.
    pub fn estimate(&self, plan: &Plan, previews: &[Preview]) -> Option<Estimate> {
        let runs = |state: &State| matches!(state, State::WouldRun(_) | State::Unknown);
        if !previews.iter().any(|it| runs(&it.state)) {
            return None;
        }
        let known = self.times(plan);
        let slots = self.devices.gpus.len().max(1);
        let slots =
            if self.devices.gpus.is_empty() { self.settings.cpu_slots.max(1) } else { slots };
        let mut free = vec![0.0_f64; slots];
        let mut ends: HashMap<usize, f64> = HashMap::new();
        let mut unknown = Vec::new();
        for preview in previews {
            let stage = &plan.stages[preview.stage];
            let ready = stage.sources().filter_map(|it| ends.get(&it)).copied().fold(0.0, f64::max);
            if !runs(&preview.state) {
                ends.insert(preview.stage, ready);
                continue;
            }
            let took = known.get(&stage.id).or_else(|| known.get(&stage.spec)).copied();
            if took.is_none() {
                unknown.push(stage.id.clone());
            }
            let slot = (0..slots).min_by(|a, b| free[*a].total_cmp(&free[*b])).unwrap_or(0);
            let end = free[slot].max(ready) + took.unwrap_or(0.0);
            free[slot] = end;
            ends.insert(preview.stage, end);
        }
        let seconds = ends.into_values().fold(0.0, f64::max);
        Some(Estimate { seconds, unknown })
    }

    /// By the names of stages what each took when it last ran, and by those of matrices the mean of their variants.
    fn times(&self, plan: &Plan) -> BTreeMap<String, f64> {
        let mut times: BTreeMap<String, f64> = BTreeMap::new();
        for run in History::of(&self.cache, &plan.file).iter().take(RUNS) {
            for stage in run.stages.iter().filter(|it| it.status == Status::Finished) {
                times.entry(stage.stage.clone()).or_insert(stage.seconds);
            }
        }
        let mut means: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (stage, took) in &times {
            if let Some((spec, _)) = stage.split_once('[') {
                let (sum, count) = means.entry(spec.to_owned()).or_default();
                (*sum, *count) = (*sum + took, *count + 1.0);
            }
        }
        for (spec, (sum, count)) in means {
            times.entry(spec).or_insert(sum / count);
        }
        times
    }
}
