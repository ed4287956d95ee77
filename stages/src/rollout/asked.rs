//! Prompts that are to be completed, with what stands beside them.

use crate::{artifact::json::Object, prepare::examples::Prompts};

/// What is to be completed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) prompt: String,
    /// Which of the prompts it is: what is drawn for it hangs on that.
    pub(crate) number: usize,
    /// What else its row holds.
    pub(crate) extra: Object,
}

impl Asked {
    /// Each prompt with its number.
    pub(crate) fn each(prompts: Prompts) -> Vec<Self> {
        let rows = prompts.rows.into_iter().enumerate();
        rows.map(|(number, (prompt, extra))| Self { prompt, number, extra }).collect()
    }
}
