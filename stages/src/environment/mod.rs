//! Worlds that a policy talks to: `reset(row)` begins a conversation, `step(reply)` goes on with what comes of a reply.
//!
//! They are texts to each other; who samples turns them into tokens (`rollout/conversation.rs`). A question that is asked
//! once needs none.

mod program;
mod rewarded;
pub(crate) mod settings;
mod verified;
pub(crate) mod world;
