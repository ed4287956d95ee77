//! The key `resources`: what a stage asks of the machine it runs on.
//!
//! A launcher gives it or refuses the stage. Nothing of it stands in a fingerprint; `gpus: 0` alone counts
//! there through the class of the device.

use std::time::Duration;

use gradus_protocol::catalog::Kind;

use super::values::{Read, out_of_range, time, wrong_type};
use crate::spec::{At, Data, Entry, Node, Problem, nearest, size};

const KEYS: [&str; 6] = ["cpus", "gpus", "gpu_type", "nodes", "mem", "time"];
const MOST: u64 = 10_000;

/// What a stage asks for; `None` where it does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Cores: on this machine a slot for every two of them.
    pub cpus: Option<u32>,
    /// GPUs; 0 holds the stage to the CPU.
    pub gpus: Option<u32>,
    /// A part of the GPU's name.
    pub gpu_type: Option<String>,
    pub nodes: Option<u32>,
    /// Bytes of memory.
    pub mem: Option<u64>,
    /// How long to ask a cluster's queue for; `timeout` is what ends a stage.
    pub time: Option<Duration>,
}

impl Resources {
    /// Whether the stage is to run on a GPU, if it says so.
    pub fn on_gpu(&self) -> Option<bool> {
        match self.gpus {
            Some(count) => Some(count > 0),
            None => self.gpu_type.as_ref().map(|_| true),
        }
    }
}

/// Reads the map, whose values are filled in; mistakes go to `add`.
pub(super) fn read(
    node: &Node,
    kind: &Kind,
    is_program: bool,
    add: &mut impl FnMut(At, Problem),
) -> Resources {
    let mut resources = Resources::default();
    if !matches!(node.data, Data::Map(_)) {
        if let Err(problem) = wrong_type::<()>("resources", "a map", node) {
            add(node.at, *problem);
        }
        return resources;
    }
    for Entry { key, at, value } in node.entries() {
        let count = |least| count(key, least, value);
        let read: Read<()> = match key.as_str() {
            "cpus" => count(1).map(|it| resources.cpus = Some(it)),
            "gpus" => count(0).map(|it| resources.gpus = Some(it)),
            "nodes" => count(1).map(|it| resources.nodes = Some(it)),
            "gpu_type" => match value.as_text() {
                Some(text) if !text.trim().is_empty() => {
                    resources.gpu_type = Some(text.trim().to_owned());
                    Ok(())
                }
                _ => wrong_type(key, "a part of a GPU's name, e.g. `H100`", value),
            },
            "mem" => memory(value).map(|it| resources.mem = Some(it)),
            "time" => time(key, value).map(|it| resources.time = Some(it)),
            _ => {
                let problem = Problem::UnknownKey {
                    place: "`resources`".to_owned(),
                    key: key.clone(),
                    nearest: nearest(key, KEYS),
                    known: KEYS.join(", "),
                };
                add(*at, problem);
                continue;
            }
        };
        if let Err(problem) = read {
            add(value.at, *problem);
        }
    }
    let contradicts = resources.gpus == Some(0) && resources.gpu_type.is_some();
    let useless = resources.on_gpu() == Some(true) && !kind.uses_device && !is_program;
    let gpus = node.get("gpus").or_else(|| node.get("gpu_type"));
    if let Some(gpus) = gpus.filter(|_| contradicts || useless) {
        let rule = if contradicts {
            "at least 1 beside `gpu_type`".to_owned()
        } else {
            format!("left out, for `{}` computes on the CPU alone", kind.kind)
        };
        let what = if node.get("gpus").is_some() { "gpus" } else { "gpu_type" };
        if let Err(problem) = out_of_range::<()>(what, rule, gpus) {
            add(gpus.at, *problem);
        }
    }
    resources
}

fn count(what: &str, least: u64, value: &Node) -> Read<u32> {
    let count = match &value.data {
        Data::Number(number) if !number.is_f64() => number,
        _ => return wrong_type(what, "a whole number", value),
    };
    let count = count.as_u64().filter(|count| (least..=MOST).contains(count));
    match count.and_then(|count| u32::try_from(count).ok()) {
        Some(count) => Ok(count),
        None => out_of_range(what, format!("at least {least} and at most {MOST}"), value),
    }
}

fn memory(value: &Node) -> Read<u64> {
    match size(value) {
        Some(bytes) => Ok(bytes),
        None => wrong_type("mem", "a size with its unit, e.g. `8GiB`", value),
    }
}
