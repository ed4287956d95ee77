//! The curve of a training: a line of numbers per step.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::StageError;

/// A line of the training curve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) step: usize,
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) learning_rate: f64,
    #[serde(flatten)]
    pub(crate) metrics: serde_json::Map<String, serde_json::Value>,
}

/// Writes the curve as JSON lines.
pub(crate) fn write_curve(curve: &[Point], path: &Path) -> Result<(), StageError> {
    let mut text = String::new();
    for point in curve {
        text += &serde_json::to_string(point).expect("a point is JSON");
        text.push('\n');
    }
    std::fs::write(path, text).map_err(StageError::file(path))
}
