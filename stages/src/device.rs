//! The device of this worker, opened once.
//!
//! libtorch decides at its first question about CUDA, once and for all, whether there is any. So the
//! CUDA half is loaded by hand before any other call; afterwards it would never be seen.

use std::ffi::{CStr, CString};

/// A device that was opened, and what the engine is to know about it.
pub(crate) struct Opened {
    pub(crate) device: tch::Device,
    pub(crate) name: String,
    /// Goes into fingerprints: the same class gives the same bytes.
    pub(crate) class: String,
}

/// Opens `auto`, `cpu`, `cuda` or `cuda:N`. `auto` falls back to the CPU, the others do not.
pub(crate) fn open(wanted: &str) -> Result<Opened, String> {
    let index = match wanted {
        "cpu" => return Ok(cpu()),
        "auto" | "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .ok_or_else(|| format!("`{other}` is no device: auto, cpu, cuda or cuda:N"))?,
    };
    match open_cuda(index) {
        Err(_) if wanted == "auto" => Ok(cpu()),
        opened => opened,
    }
}

fn cpu() -> Opened {
    Opened { device: tch::Device::Cpu, name: "cpu".to_owned(), class: "cpu".to_owned() }
}

fn open_cuda(index: usize) -> Result<Opened, String> {
    load(c"libtorch_cuda.so").map_err(|why| format!("libtorch has no CUDA half: {why}"))?;
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if !tch::Cuda::is_available() || count == 0 {
        return Err("CUDA is loaded but finds no GPU: is the NVIDIA driver installed?".to_owned());
    }
    if index >= count {
        return Err(format!("there is no GPU {index}: this machine has {count}"));
    }
    tch::Cuda::cudnn_set_benchmark(false);
    let model = gpu_model(index).unwrap_or_else(|| "unknown GPU".to_owned());
    let class = format!("cuda {model}");
    Ok(Opened { device: tch::Device::Cuda(index), name: format!("cuda:{index} ({model})"), class })
}

/// Loads a library for good: its constructors register CUDA's kernels with libtorch.
fn load(library: &CStr) -> Result<(), String> {
    // SAFETY: the name is a C string, and the library stays loaded until the process ends.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed `dlopen`, `dlerror` returns a C string or null.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return Err("it cannot be loaded".to_owned());
    }
    // SAFETY: not null, so a C string that lives until the next call of the loader.
    Err(unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned())
}

/// The marketing name of a GPU, from the driver's own library.
fn gpu_model(index: usize) -> Option<String> {
    type DeviceGet = unsafe extern "C" fn(*mut i32, i32) -> i32;
    type DeviceName = unsafe extern "C" fn(*mut libc::c_char, i32, i32) -> i32;
    // SAFETY: libcuda is loaded already (libtorch_cuda found a GPU); both functions have had these
    // signatures since CUDA 2.0, and the buffer's length is passed along.
    unsafe {
        let driver = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        let symbol = |name: &str| {
            let name = CString::new(name).ok()?;
            let address = libc::dlsym(driver, name.as_ptr());
            (!address.is_null()).then_some(address)
        };
        if driver.is_null() {
            return None;
        }
        let get: DeviceGet = std::mem::transmute(symbol("cuDeviceGet")?);
        let name_of: DeviceName = std::mem::transmute(symbol("cuDeviceGetName")?);
        let (mut device, mut buffer) = (0, [0; 128]);
        if get(&raw mut device, i32::try_from(index).ok()?) != 0
            || name_of(buffer.as_mut_ptr(), 128, device) != 0
        {
            return None;
        }
        Some(CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_goes_on_without_cuda_and_a_wrong_name_is_refused() {
        assert!(open("auto").is_ok());
        assert!(open("tpu").err().unwrap().contains("no device"));
    }
}
