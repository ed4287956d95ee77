//! Which devices a run uses, and the class that goes into fingerprints.
//!
//! Found without libtorch, so that a plan takes milliseconds: the driver's own files say what GPUs there are.
//! The worker that opens a device says its class again, and both must agree.

use std::{fs, path::Path};

use crate::plan::Stage;

/// Threads inside one operation, unless the project says another number. Sums depend on it, so it is the same on every
/// machine.
pub const THREADS: u32 = 2;

/// The devices of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// `cuda:N`, one slot each; empty for the CPU.
    pub gpus: Vec<String>,
    /// The class of the device that tensor stages run on.
    pub class: String,
    /// Threads inside one operation.
    pub threads: u32,
}

impl Devices {
    /// Reads `auto`, `cpu`, `cuda` (every GPU) or `cuda:N`.
    pub fn choose(wanted: &str, gpus: &[String], threads: u32) -> Result<Self, String> {
        let cpu = || Self { gpus: Vec::new(), class: cpu_class(threads), threads };
        let numbers: Vec<usize> = match wanted {
            "cpu" => return Ok(cpu()),
            "auto" if gpus.is_empty() => return Ok(cpu()),
            "auto" | "cuda" => (0..gpus.len()).collect(),
            other => {
                let number = other.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                let words = || format!("`{other}` is no device: use auto, cpu, cuda or cuda:N");
                vec![number.ok_or_else(words)?]
            }
        };
        if gpus.is_empty() {
            return Err(format!(
                "there is no NVIDIA GPU here for `--device {wanted}`; `--device cpu` works everywhere"
            ));
        }
        let Some(model) = numbers.first().and_then(|first| gpus.get(*first)) else {
            return Err(format!("there is no GPU for `{wanted}`: this machine has {}", gpus.len()));
        };
        // GPUs of another model would give other bytes under the same fingerprint.
        let alike = numbers.iter().filter(|number| gpus.get(**number) == Some(model));
        let gpus = alike.map(|number| format!("cuda:{number}")).collect();
        Ok(Self { gpus, class: format!("cuda {model}"), threads })
    }

    /// The class that counts for `stage`: one that is held to the CPU gives the same bytes everywhere.
    pub(crate) fn class_of(&self, stage: &Stage) -> String {
        match stage.conduct.resources.on_gpu() {
            Some(false) => cpu_class(self.threads),
            _ => self.class.clone(),
        }
    }

    pub fn name(&self) -> String {
        if self.gpus.is_empty() { "cpu".to_owned() } else { self.gpus.join(", ") }
    }
}

fn cpu_class(threads: u32) -> String {
    format!("cpu {}{} {threads} threads", std::env::consts::ARCH, instructions())
}

/// What libraries choose their code by. Workers are held to AVX2 at most, so newer processors of one
/// maker agree; processors of two makers may round differently.
#[cfg(target_arch = "x86_64")]
fn instructions() -> String {
    let leaf = std::arch::x86_64::__cpuid(0);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
    let set = if is_x86_feature_detected!("avx2") { "avx2" } else { "sse" };
    format!(" {} {set}", String::from_utf8_lossy(&name))
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> String {
    String::new()
}

/// The model of every NVIDIA GPU, in the driver's order.
pub fn detect_gpus() -> Vec<String> {
    if std::env::var("CUDA_VISIBLE_DEVICES")
        .is_ok_and(|visible| visible.is_empty() || visible == "-1")
    {
        return Vec::new();
    }
    let Ok(folders) = fs::read_dir(Path::new("/proc/driver/nvidia/gpus")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let model = |path: &Path| {
        let text = fs::read_to_string(path.join("information")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(line.trim().to_owned())
    };
    paths.iter().filter_map(|path| model(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_cpu_where_there_is_no_gpu_and_cuda_is_an_error() {
        assert_eq!(Devices::choose("auto", &[], THREADS).unwrap().name(), "cpu");
        let error = Devices::choose("cuda", &[], THREADS).unwrap_err();
        assert!(error.contains("no NVIDIA GPU"), "{error}");
    }

    #[test]
    fn only_gpus_of_one_model_work_together() {
        let gpus = ["A".to_owned(), "B".to_owned(), "A".to_owned()];
        let devices = Devices::choose("auto", &gpus, THREADS).unwrap();
        assert_eq!((devices.name().as_str(), devices.class.as_str()), ("cuda:0, cuda:2", "cuda A"));
        assert_eq!(Devices::choose("cuda:1", &gpus, THREADS).unwrap().class, "cuda B");
        assert!(Devices::choose("cuda:3", &gpus, THREADS).is_err());
    }
}
