//! What becomes of rows on their way to token ids: how long they may be, and how many were dropped or cut.
//!
//! Every kind that takes rows counts them here, so that none is lost in silence.

use super::truncation::TooLong;
use crate::{error::StageError, nn::pretrained::Pretrained};

/// Of so many rows one may be dropped or cut without a word.
const ONE_OF: u64 = 20;

/// How long rows may be, and what happens to longer ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) tokens: usize,
    pub(crate) too_long: TooLong,
    context: usize,
}

impl Fit {
    /// Rows of at most `max_length` tokens; of as many as the model's context has by default.
    pub(crate) fn new(
        model: &Pretrained,
        max_length: Option<usize>,
        too_long: TooLong,
    ) -> Result<Self, StageError> {
        let context = model.longest(None)?;
        Ok(Self { tokens: model.longest(max_length)?, too_long, context })
    }

    #[cfg(test)]
    pub(super) fn of(tokens: usize, too_long: TooLong) -> Self {
        Self { tokens, too_long, context: 64 }
    }

    fn remedy(&self) -> String {
        match self.context {
            context if context == self.tokens => format!("the model's context is {context}"),
            _ => "raise `max_length`".to_owned(),
        }
    }
}

/// What became of one row.
pub(crate) enum Made<T> {
    Whole(T),
    Cut(T),
    Dropped,
}

impl<T> Made<T> {
    /// A row of which something is left: all of it, unless it was too long.
    pub(super) fn new(row: T, long: bool) -> Self {
        if long { Self::Cut(row) } else { Self::Whole(row) }
    }
}

/// Counts the rows that came in through a port.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    port: &'static str,
    fit: Fit,
    kept: u64,
    cut: u64,
    dropped: u64,
}

impl Tally {
    pub(crate) fn new(port: &'static str, fit: Fit) -> Self {
        Self { port, fit, kept: 0, cut: 0, dropped: 0 }
    }

    /// Takes a row in, unless it was dropped.
    pub(crate) fn keep<T>(&mut self, made: Made<T>) -> Option<T> {
        self.kept += u64::from(!matches!(made, Made::Dropped));
        self.cut += u64::from(matches!(made, Made::Cut(_)));
        self.dropped += u64::from(matches!(made, Made::Dropped));
        match made {
            Made::Whole(row) | Made::Cut(row) => Some(row),
            Made::Dropped => None,
        }
    }

    /// Refuses rows of which none is left.
    pub(crate) fn some_left(self) -> Result<Self, StageError> {
        if self.kept > 0 {
            return Ok(self);
        }
        let Self { port, fit, .. } = self;
        let (tokens, remedy) = (fit.tokens, fit.remedy());
        Err(StageError::refused(format!("no row of `{port}` fits into {tokens} tokens: {remedy}")))
    }

    /// The numbers for a summary.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        [("rows", self.kept), ("rows_dropped", self.dropped), ("rows_cut", self.cut)]
    }

    /// What a person should know: that more than a few rows were dropped or cut.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Self { port, fit, kept, cut, dropped } = self;
        let (all, tokens, remedy) = (kept + dropped, fit.tokens, fit.remedy());
        let mut warnings = Vec::new();
        if dropped * ONE_OF > all {
            let or = match fit.too_long {
                TooLong::Drop => ", or say `too_long: cut`",
                TooLong::Cut | TooLong::CutStart => "",
            };
            warnings.push(format!(
                "{} of {} rows of `{port}` were dropped, as they do not fit into {tokens} tokens: \
                 {remedy}{or}",
                grouped(*dropped),
                grouped(all)
            ));
        }
        if cut * ONE_OF > *kept {
            let all_or_part =
                if cut == kept { "all".to_owned() } else { format!("{} of", grouped(*cut)) };
            let without = match fit.too_long {
                TooLong::CutStart => "have lost their start",
                _ => "do not learn their end",
            };
            warnings.push(format!(
                "{all_or_part} {} rows of `{port}` were cut at {tokens} tokens and {without}: {remedy}",
                grouped(*kept)
            ));
        }
        warnings
    }
}

/// A count with a comma before every three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(too_long: TooLong, tokens: usize, [whole, cut, dropped]: [usize; 3]) -> Tally {
        let mut tally = Tally::new("completions", Fit::of(tokens, too_long));
        let made = (0..whole).map(|_| Made::Whole(())).chain((0..cut).map(|_| Made::Cut(())));
        for made in made.chain((0..dropped).map(|_| Made::Dropped)) {
            let _ = tally.keep(made);
        }
        tally
    }

    #[test]
    fn rows_are_counted_and_few_dropped_or_cut_ones_are_not_worth_a_word() {
        let tally = tally(TooLong::Cut, 32, [90, 4, 4]);
        assert_eq!(tally.counts(), [("rows", 94), ("rows_dropped", 4), ("rows_cut", 4)]);
        assert_eq!(tally.warnings(), Vec::<String>::new());
    }

    #[test]
    fn many_dropped_or_cut_rows_are_said_with_the_remedy() {
        let words = |tally: Tally| tally.warnings().join("\n");
        insta::assert_snapshot!(words(tally(TooLong::Cut, 32, [151, 1349, 0])), @"1,349 of 1,500 rows of `completions` were cut at 32 tokens and do not learn their end: raise `max_length`");
        insta::assert_snapshot!(words(tally(TooLong::Cut, 64, [0, 3, 1])), @"
        1 of 4 rows of `completions` were dropped, as they do not fit into 64 tokens: the model's context is 64
        all 3 rows of `completions` were cut at 64 tokens and do not learn their end: the model's context is 64
        ");
        insta::assert_snapshot!(words(tally(TooLong::Drop, 32, [9, 0, 1])), @"1 of 10 rows of `completions` were dropped, as they do not fit into 32 tokens: raise `max_length`, or say `too_long: cut`");
    }

    #[test]
    fn rows_of_which_none_is_left_are_refused() {
        let words = |tokens| {
            let error = tally(TooLong::Drop, tokens, [0, 0, 3]).some_left().unwrap_err();
            error.to_string()
        };
        insta::assert_snapshot!(words(32), @"no row of `completions` fits into 32 tokens: raise `max_length`");
        insta::assert_snapshot!(words(64), @"no row of `completions` fits into 64 tokens: the model's context is 64");
    }
}
