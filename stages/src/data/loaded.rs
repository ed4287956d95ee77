//! The rows of a file as they were read, and what is odd about them without being an error.

use super::implicit::ends_inside_a_word;
use crate::{
    artifact::dataset::{Fields, PreferenceRow, Row},
    context::Context,
};

/// The rows of a file, and what a person should know of them.
pub(crate) struct Loaded {
    pub(crate) rows: Vec<Row>,
    /// The prompt is what two texts have in common, and nobody said where it ends.
    pub(crate) guessed_prompts: bool,
    /// How many documents of a text file had nothing in them.
    pub(crate) blank_documents: Option<u64>,
    /// Of pairs with a verdict: how many were left out as neither reply was better.
    pub(crate) ties: Option<u64>,
}

impl Loaded {
    fn pairs(&self) -> impl Iterator<Item = &PreferenceRow> {
        self.rows.iter().filter_map(|row| match &row.fields {
            Fields::Preference(row) => Some(row),
            _ => None,
        })
    }

    /// How many pairs have one text twice.
    fn identical(&self) -> usize {
        self.pairs().filter(|row| row.chosen == row.rejected).count()
    }

    /// How many prompts break off in a word, where nobody said where prompts end.
    pub(crate) fn broken(&self) -> Option<usize> {
        let broken =
            |row: &&PreferenceRow| ends_inside_a_word(&row.prompt, [&row.chosen, &row.rejected]);
        self.guessed_prompts.then(|| self.pairs().filter(broken).count())
    }

    /// Counts what is odd about the rows, and says it.
    pub(crate) fn report(&self, prefix: &str, context: &mut Context) {
        if let Some(blank) = self.blank_documents {
            context.summary(&format!("{prefix}blank_documents"), blank as f64);
        }
        if let Some(ties) = self.ties {
            context.summary(&format!("{prefix}ties"), ties as f64);
        }
        if self.pairs().next().is_none() {
            return;
        }
        let (all, same) = (self.rows.len(), self.identical());
        context.summary(&format!("{prefix}identical_pairs"), same as f64);
        if same > 0 {
            context.note(format!(
                "{same} of {all} pairs have one and the same text as `chosen` and `rejected`: they \
                 teach nothing"
            ));
        }
        let Some(broken) = self.broken() else { return };
        context.summary(&format!("{prefix}prompts_ending_inside_a_word"), broken as f64);
        if broken > 0 {
            context.note(format!(
                "{broken} of {all} prompts end inside a word, where `chosen` and `rejected` begin to \
                 differ: say with `prompt_end` where replies begin"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_one_text_twice_and_prompts_that_end_inside_a_word_are_counted() {
        let row = |texts: [&str; 3]| {
            let [prompt, chosen, rejected] = texts.map(str::to_owned);
            Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin: None }).into()
        };
        let texts = [["a ", "b", "b"], ["a ", "b", "c"], ["a th", "e", "at"]];
        let rows = texts.map(row).into();
        let mut loaded = Loaded { rows, guessed_prompts: true, blank_documents: None, ties: None };
        assert_eq!((loaded.identical(), loaded.broken()), (1, Some(1)));
        loaded.guessed_prompts = false;
        assert_eq!(loaded.broken(), None);
    }
}
