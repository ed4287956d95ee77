//! What the engine and its workers say to each other, and nothing else.
//!
//! A frame is a length (u32, little endian) and that many bytes of JSON. Raise [`VERSION`] whenever an
//! older peer would misread a message; both sides refuse a version that is not their own.

pub mod catalog;
mod checkpoint;
mod frame;
mod ledger;
mod message;

pub use checkpoint::Checkpoint;
pub use frame::{FrameError, LARGEST_FRAME, read_frame, write_frame};
pub use ledger::{Page, Reached};
pub use message::{Cause, Checkpoints, Input, Job, LOOK, Reply, Request, Source, TAKE, VERSION};
