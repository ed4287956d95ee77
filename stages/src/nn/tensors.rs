//! Tensors in safetensors files, read through a mapping.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
};

use memmap2::Mmap;
use safetensors::{Dtype, View, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use super::header;
use crate::error::StageError;

/// Reads those tensors of a safetensors file that `wanted` (name, shape) lets through. Floats become
/// float32, integers and booleans int64.
pub(crate) fn read_tensors(
    path: &Path,
    wanted: impl Fn(&str, &[i64]) -> Result<bool, String>,
) -> Result<Vec<(String, Tensor)>, StageError> {
    let file = File::open(path).map_err(StageError::file(path))?;
    // SAFETY: objects of the cache and files of a fetched model are never written in place.
    let bytes = unsafe { Mmap::map(&file) }.map_err(StageError::file(path))?;
    let shown = path.display().to_string();
    let stored = header::open(&bytes).map_err(|why| refused(&shown, &why))?;
    let mut tensors = Vec::with_capacity(stored.len());
    for (name, view) in stored.tensors() {
        let shape: Option<Vec<i64>> = view.shape().iter().map(|n| i64::try_from(*n).ok()).collect();
        let shape = shape.ok_or_else(|| refused(&shown, &format!("`{name}` is too large")))?;
        if wanted(&name, &shape).map_err(|why| refused(&shown, &why))? {
            let tensor = to_tensor(&view, &shape)
                .map_err(|why| refused(&shown, &format!("`{name}`: {why}")))?;
            tensors.push((name, tensor));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

fn to_tensor(view: &TensorView, shape: &[i64]) -> Result<Tensor, String> {
    let (kind, target) = match view.dtype() {
        Dtype::F32 => (Kind::Float, Kind::Float),
        Dtype::F16 => (Kind::Half, Kind::Float),
        Dtype::BF16 => (Kind::BFloat16, Kind::Float),
        Dtype::F64 => (Kind::Double, Kind::Float),
        Dtype::I64 => (Kind::Int64, Kind::Int64),
        Dtype::I32 => (Kind::Int, Kind::Int64),
        Dtype::U8 | Dtype::BOOL => (Kind::Uint8, Kind::Int64),
        other => return Err(format!("the type {other:?} cannot be read")),
    };
    let tensor = Tensor::f_from_data_size(view.data(), shape, kind);
    tensor.and_then(|tensor| tensor.f_to_kind(target)).map_err(|error| error.to_string())
}

/// Writes float32 tensors in the order of their names, one in memory at a time.
pub(crate) fn write_tensors(
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(), StageError> {
    let failed = RefCell::new(None);
    let streamed = tensors.iter().map(|(name, tensor)| {
        let shape = tensor.size().iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        (name.as_str(), Streamed { tensor, shape, failed: &failed })
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = safetensors::serialize_to_file(streamed, Some(metadata), path);
    if let Some(error) = failed.take() {
        return Err(StageError::Tensor(error));
    }
    written.map_err(|error| refused(&path.display().to_string(), &error.to_string()))
}

/// A tensor whose bytes come from the device when they are written.
struct Streamed<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
    /// Where a failure goes, as a view cannot tell.
    failed: &'a RefCell<Option<tch::TchError>>,
}

impl Streamed<'_> {
    fn bytes(&self) -> Result<Vec<u8>, tch::TchError> {
        let tensor = self.tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        let tensor = tensor.f_contiguous()?;
        let mut bytes = vec![0; self.data_len()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    }
}

impl View for Streamed<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes().unwrap_or_else(|error| {
            self.failed.replace(Some(error));
            Vec::new()
        }))
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * 4
    }
}

fn refused(file: &str, why: &str) -> StageError {
    StageError::refused(format!("`{file}`: {why}"))
}
