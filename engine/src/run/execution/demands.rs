//! What a stage demands that this machine or this person does not have.

use std::fs;

use crate::{
    plan::Stage,
    run::{
        process::{program, secret},
        session::Session,
    },
};

const MIB: u64 = 1 << 20;

impl Session {
    /// Why the stage cannot run here, if it cannot.
    pub fn unmet(&self, stage: &Stage) -> Option<String> {
        unmet(self, stage)
    }
}

/// Why the stage cannot run here, if it cannot.
pub(crate) fn unmet(session: &Session, stage: &Stage) -> Option<String> {
    if let Some(result) = stage.conduct.frozen {
        return Some(format!(
            "it is frozen to the result {result}, which is not here: fetch it with `gradus cache pull`, or thaw the \
             stage with `gradus freeze --thaw`"
        ));
    }
    let resources = &stage.conduct.resources;
    let devices = &session.devices;
    if let Some(nodes) = resources.nodes.filter(|nodes| *nodes > 1) {
        return Some(format!("it asks for {nodes} nodes, and the local launcher has one"));
    }
    if let Some(gpus) = resources.gpus.filter(|gpus| *gpus > 1) {
        return Some(format!("it asks for {gpus} GPUs, and the local launcher gives a stage one"));
    }
    if resources.on_gpu() == Some(true) && devices.gpus.is_empty() {
        return Some("it asks for a GPU, and this run has none".to_owned());
    }
    if let Some(wanted) = &resources.gpu_type
        && !devices.class.to_lowercase().contains(&wanted.to_lowercase())
    {
        let class = devices.class.trim_start_matches("cuda ");
        return Some(format!("it asks for a GPU called `{wanted}`, and this run has `{class}`"));
    }
    if let (Some(wanted), Some(there)) = (resources.mem, memory())
        && wanted > there
    {
        let (wanted, there) = (wanted.div_ceil(MIB), there / MIB);
        return Some(format!(
            "it asks for {wanted} MiB of memory, and this machine has {there} MiB"
        ));
    }
    let tools = stage.exec.iter().flat_map(|exec| &exec.tools);
    if let Some(name) = tools.into_iter().find(|name| program::on_path(name).is_none()) {
        return Some(format!("it needs the program `{name}`, and `PATH` has none of that name"));
    }
    secret::unmet(&stage.conduct.secrets)
}

/// The bytes of memory that this machine has, or the container that we are in.
pub(crate) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits =
        limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}
