//! What a world is to whoever samples.

use crate::{artifact::json::Object, error::StageError};

/// What a conversation is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    pub(crate) prompt: String,
    /// The other columns of its row.
    pub(crate) columns: Object,
}

/// What comes of a reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// What the world says to it; without that the conversation is over.
    pub(crate) observation: Option<String>,
    pub(crate) reward: f64,
    /// What else is to be known of it.
    pub(crate) columns: Object,
}

/// Ends a wait if a person asked for that.
pub(crate) type Heard<'h> = &'h mut dyn FnMut() -> Result<(), StageError>;

/// Talks with many at once, each by its place in what `reset` was given.
pub(crate) trait World {
    /// Begins anew, with what it says before the first reply: often nothing.
    fn reset(
        &mut self,
        questions: Vec<Question>,
        heard: Heard<'_>,
    ) -> Result<Vec<String>, StageError>;

    /// What comes of `replies`, each of the conversation before it, in their order.
    fn step(
        &mut self,
        replies: &[(usize, String)],
        heard: Heard<'_>,
    ) -> Result<Vec<Outcome>, StageError>;
}
