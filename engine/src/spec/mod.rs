//! A pipeline as its author wrote it, with its place in the text.
//!
//! The one room that names `serde_yaml`. Text goes through [`bounds`] before anything reads it, becomes
//! [`Node`]s that know where they stand, and then a [`Pipeline`] in which every key is a known one.

mod bounds;
mod budget;
mod include;
mod interpolate;
mod measure;
mod mistake;
mod node;
mod overlay;
mod pipeline;
mod read;
mod reader;
mod snapshot;
mod template;

pub use budget::{Budget, Over};
pub use include::Module;
pub use interpolate::{Arm, Scope, interpolate};
pub(crate) use measure::{duration, size};
pub use mistake::{Mistake, Mistakes, Problem, nearest};
pub use node::{At, Data, Entry, Node, SourceText, Sources};
pub use overlay::Overrides;
pub(crate) use pipeline::is_name;
pub use pipeline::{ExecSpec, Pipeline, Reference, StageSpec, load};
pub use snapshot::{SnapshotSpec, What};
