//! The parts of this machine that stages take while they run: slots of the CPU, GPUs, and memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::demands::memory;
use crate::{error::RunError, plan::Stage, run::session::Session};

pub(crate) const CPU: &str = "cpu";
const MIB: u64 = 1 << 20;

/// All that can be taken.
pub(crate) struct Slots {
    cpu: Arc<Semaphore>,
    gpu: Arc<Semaphore>,
    /// In mebibytes; only stages that say what they need take of it.
    memory: Arc<Semaphore>,
    free_gpus: Arc<Mutex<VecDeque<String>>>,
}

/// What one stage takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    gpu: bool,
    slots: u32,
    memory: u32,
}

/// The right to use a device, given back when dropped.
pub(crate) struct Slot {
    pub(crate) device: String,
    free_gpus: Option<Arc<Mutex<VecDeque<String>>>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(free) = &self.free_gpus {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            free.push_back(std::mem::take(&mut self.device));
        }
    }
}

impl Slots {
    pub(crate) fn of(session: &Session) -> Self {
        let gpus = &session.devices.gpus;
        let all = memory().and_then(|bytes| usize::try_from(bytes.div_ceil(MIB)).ok());
        Self {
            cpu: Arc::new(Semaphore::new(session.settings.cpu_slots.max(1))),
            gpu: Arc::new(Semaphore::new(gpus.len())),
            memory: Arc::new(Semaphore::new(all.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))),
            free_gpus: Arc::new(Mutex::new(gpus.iter().cloned().collect())),
        }
    }

    /// Waits until the stage's share is free.
    pub(crate) async fn take(&self, stage: &Stage, session: &Session) -> Result<Slot, RunError> {
        let share = Share::of(stage, session);
        let mut permits = Vec::new();
        // Everybody in the same order: nobody waits for what waits for him.
        let parts = [
            (&self.memory, share.memory),
            (&self.cpu, share.slots),
            (&self.gpu, u32::from(share.gpu)),
        ];
        for (all, part) in parts.into_iter().filter(|(_, part)| *part > 0) {
            let permit = Arc::clone(all).acquire_many_owned(part).await;
            permits.push(permit.map_err(|_| RunError::Cancelled)?);
        }
        let free = || self.free_gpus.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let device = if share.gpu { free() } else { None };
        let free_gpus = device.is_some().then(|| Arc::clone(&self.free_gpus));
        Ok(Slot { device: device.unwrap_or_else(|| CPU.to_owned()), free_gpus, _permits: permits })
    }
}

impl Share {
    fn of(stage: &Stage, session: &Session) -> Self {
        let resources = &stage.conduct.resources;
        let by_kind = stage.kind.uses_device && stage.exec.is_none();
        let gpu = resources.on_gpu().unwrap_or(by_kind) && !session.devices.gpus.is_empty();
        let most = u32::try_from(session.settings.cpu_slots.max(1)).unwrap_or(u32::MAX);
        let slots =
            resources.cpus.map(|cpus| cpus.div_ceil(session.devices.threads).clamp(1, most));
        let memory = resources.mem.unwrap_or(0).div_ceil(MIB);
        Self {
            gpu,
            // On a GPU, cores count only if they are asked for.
            slots: slots.unwrap_or(u32::from(!gpu)),
            memory: u32::try_from(memory).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gradus_cache::Cache;

    use super::*;
    use crate::{
        plan::plan,
        run::{Devices, Settings, execution::demands::unmet},
        spec::{Mistakes, Overrides, load},
    };

    const CATALOG: &str = r#"{ "kinds": [{
        "kind": "train", "revision": 1, "doc": "", "uses_device": true,
        "params": [], "inputs": [], "outputs": []
    }] }"#;

    /// A session on `gpus` GPUs with four slots, and a stage that asks for `resources`.
    fn asking(
        folder: &std::path::Path,
        gpus: usize,
        kind: &str,
        resources: &str,
    ) -> (Session, Stage) {
        let text = format!("stages: {{ a: {{ resources: {{ {resources} }}, {kind} }} }}");
        fs::write(folder.join("p.yaml"), text).unwrap();
        let mut mistakes = Mistakes::default();
        let pipeline = load(&folder.join("p.yaml"), &Overrides::default(), &mut mistakes).unwrap();
        let catalog = serde_json::from_str(CATALOG).unwrap();
        let stage = plan(&pipeline, &catalog, mistakes).unwrap().stages.pop().unwrap();
        let devices =
            Devices::choose("auto", &vec!["NVIDIA H100 80GB".to_owned(); gpus], 2).unwrap();
        let session = Session {
            cache: Cache::open(&folder.join("cache")).unwrap(),
            catalog,
            plugins: Vec::new(),
            remote: None,
            devices,
            settings: Settings { cpu_slots: 4, ..Settings::default() },
            project: folder.to_owned(),
        };
        (session, stage)
    }

    const TRAIN: &str = "kind: train";
    const EXEC: &str = "kind: exec, with: { command: [ls] }";

    fn share(gpus: usize, kind: &str, resources: &str) -> (bool, u32, u32) {
        let folder = tempfile::tempdir().unwrap();
        let (session, stage) = asking(folder.path(), gpus, kind, resources);
        let Share { gpu, slots, memory } = Share::of(&stage, &session);
        (gpu, slots, memory)
    }

    #[test]
    fn a_stage_takes_what_it_asks_for() {
        assert_eq!(share(0, TRAIN, ""), (false, 1, 0));
        assert_eq!(share(2, TRAIN, ""), (true, 0, 0));
        assert_eq!(share(2, TRAIN, "gpus: 0"), (false, 1, 0));
        assert_eq!(share(2, TRAIN, "cpus: 5, mem: 1500KiB"), (true, 3, 2));
        assert_eq!(share(2, EXEC, ""), (false, 1, 0));
        assert_eq!(share(2, EXEC, "gpus: 1"), (true, 0, 0));
        assert_eq!(share(2, EXEC, "gpu_type: H100, cpus: 100"), (true, 4, 0));
    }

    #[test]
    fn the_class_of_the_device_is_the_cpus_where_a_stage_is_held_to_it() {
        let class = |gpus, resources| {
            let folder = tempfile::tempdir().unwrap();
            let (session, stage) = asking(folder.path(), gpus, TRAIN, resources);
            session.devices.class_of(&stage)
        };
        assert_eq!(class(1, ""), "cuda NVIDIA H100 80GB");
        assert_eq!(class(1, "gpus: 1, cpus: 8"), "cuda NVIDIA H100 80GB");
        assert_eq!(class(1, "gpus: 0"), class(0, ""));
    }

    #[test]
    fn another_gpu_than_was_asked_for_is_refused() {
        let refused = |resources| {
            let folder = tempfile::tempdir().unwrap();
            let (session, stage) = asking(folder.path(), 1, TRAIN, resources);
            unmet(&session, &stage)
        };
        assert_eq!(refused("gpu_type: h100"), None);
        assert_eq!(
            refused("gpu_type: A100").as_deref(),
            Some("it asks for a GPU called `A100`, and this run has `NVIDIA H100 80GB`")
        );
    }
}
