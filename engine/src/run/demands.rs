//! What a stage demands of this machine, and whether it can have it: secrets, GPUs, cores and memory.

use std::fs;

use super::{Session, devices::THREADS, secret};
use crate::plan::Stage;

const MIB: u64 = 1 << 20;

/// The part of the machine that a stage takes while it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) gpu: bool,
    /// Slots of the CPU.
    pub(super) slots: u32,
    /// Mebibytes.
    pub(super) memory: u32,
}

/// Why the stage cannot run here, if it cannot.
pub(super) fn unmet(session: &Session, stage: &Stage) -> Option<String> {
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
    secret::unmet(&stage.conduct.secrets)
}

impl Share {
    pub(super) fn of(stage: &Stage, session: &Session) -> Self {
        let resources = &stage.conduct.resources;
        let by_kind = stage.kind.uses_device && stage.exec.is_none();
        let gpu = resources.on_gpu().unwrap_or(by_kind) && !session.devices.gpus.is_empty();
        let most = u32::try_from(session.settings.cpu_slots.max(1)).unwrap_or(u32::MAX);
        let slots = resources.cpus.map(|cpus| cpus.div_ceil(THREADS).clamp(1, most));
        let memory = resources.mem.unwrap_or(0).div_ceil(MIB);
        Self {
            gpu,
            // On a GPU, cores count only if they are asked for.
            slots: slots.unwrap_or(u32::from(!gpu)),
            memory: u32::try_from(memory).unwrap_or(u32::MAX),
        }
    }
}

/// Mebibytes that stages may ask for together.
pub(super) fn all_memory() -> usize {
    let all = memory().and_then(|bytes| usize::try_from(bytes / MIB).ok());
    all.unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// The bytes of memory that this machine has, or the container that we are in.
fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits =
        limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}
