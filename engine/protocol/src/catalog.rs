//! What kinds of stage there are, described so that the engine can check a pipeline without code.
//!
//! `stages/catalog.json` is one [`Catalog`]; `gradus` carries it and every worker shows its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every kind that a worker can run, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub kinds: Vec<Kind>,
}

impl Catalog {
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.kind == name)
    }
}

/// One kind of stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    pub kind: String,
    /// Raised when the same inputs would give other outputs.
    pub revision: u32,
    /// One line, then the rest of the doc.
    pub doc: String,
    /// False when the outputs are the same on every device: then the device is not in the fingerprint.
    pub uses_device: bool,
    /// For kinds that work in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    pub params: Vec<Param>,
    pub inputs: Vec<Port>,
    /// The first one is the main output.
    pub outputs: Vec<Port>,
}

impl Kind {
    /// The doc's first line.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default()
    }
}

/// Which parameters say how long a stage works, and nothing else: seeds do not derive from them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// The first that is given counts.
    pub params: Vec<String>,
    /// Where all of these parameters have these values, a longer stage begins with what a shorter one did.
    pub extends_when: BTreeMap<String, Value>,
}

impl Length {
    /// Whether a longer stage with `params` goes on from a shorter one.
    pub fn extends(&self, params: &Value) -> bool {
        self.extends_when.iter().all(|(name, value)| params.get(name) == Some(value))
    }
}

/// A parameter, or a field of a nested one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    pub name: String,
    pub doc: String,
    pub shape: Shape,
    /// What holds when it is left out; absent when it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub default: Option<Value>,
}

/// Tells a default of `null` from no default.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Shape {
    Boolean,
    Integer(Range),
    Number(Range),
    Text,
    /// A file or folder of the user's: its content is in the fingerprint, its place is not.
    Path,
    Choice {
        options: Vec<Choice>,
    },
    List {
        of: Box<Shape>,
    },
    Record {
        fields: Vec<Param>,
    },
    /// Values by names that whoever writes the pipeline chooses.
    Map {
        of: Box<Shape>,
    },
    /// The inner shape or `null`.
    Optional {
        of: Box<Shape>,
    },
    Any,
}

/// Inclusive bounds, unless `above` says that `min` itself is out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// One word that a parameter may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub value: String,
    pub doc: String,
}

/// A named place where artifacts go in or come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub doc: String,
    #[serde(rename = "type")]
    pub port_type: PortType,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Takes a fan-in of one or more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
}

/// What a port carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortType {
    /// Inputs: any of these. Outputs: the one.
    Is(Vec<String>),
    /// An output whose type a parameter decides: `(value, type)` pairs.
    ByParameter { parameter: String, types: Vec<(String, String)> },
    /// An output of the same type as what came in at that port.
    SameAs { input: String },
}
