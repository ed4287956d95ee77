//! A pipeline as its author wrote it, with its place in the text.
//!
//! The one room that names `serde_yaml`. Text goes through [`bounds`] before anything reads it, becomes
//! [`Node`]s that know where they stand, and then a [`Pipeline`] in which every key is a known one.

mod bounds;
mod budget;
mod files;
mod frozen;
mod include;
mod interpolate;
mod measure;
mod mistake;
mod module;
mod node;
mod overlay;
mod pipeline;
mod place;
mod read;
mod reader;
mod reference;
mod snapshot;
mod stage;
mod template;
mod text;
mod unused;

pub use budget::{Budget, Over};
pub(crate) use include::PREVIOUS;
pub use interpolate::{Arm, Scope, interpolate};
pub use measure::time;
pub(crate) use measure::{duration, size};
pub use mistake::{Mistake, Mistakes, Problem, nearest};
pub use module::Module;
pub use node::{Data, Entry, Node};
pub use overlay::Overrides;
pub use pipeline::{Pipeline, load};
pub use place::{At, SourceText, Sources};
pub use reference::Reference;
pub(crate) use reference::is_name;
pub use snapshot::{SnapshotSpec, What};
pub use stage::{ExecSpec, StageSpec};
pub use text::Texts;
