//! Rows of token ids as the examples that a loss takes: which of their tokens stay, and which are learnt.

use std::{collections::BTreeSet, ops::Range};

use gradus_protocol::Source;

use super::{
    tally::{Fit, Made, Tally},
    token_rows::{Asked, Purpose, TokenRow},
    tokenising::{Report, token_rows},
    truncation::TooLong,
};
use crate::{
    artifact::{dataset_folder::Reader, ids::Ids, json::Object, tokenizer::Codec},
    error::StageError,
    nn::batch::Example,
};

/// What was made of the rows of a port, and what became of the others.
pub(crate) struct Prepared<T> {
    pub(crate) rows: Vec<T>,
    /// Which row of the data each is, from 0.
    pub(crate) numbers: Vec<usize>,
    pub(crate) tally: Tally,
}

/// Two completions of one prompt, to be made more and less likely.
pub(crate) struct Pair {
    pub(crate) chosen: Example,
    pub(crate) rejected: Example,
    pub(crate) asked: Asked,
}

/// Two whole texts, to be scored.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(crate) chosen: Ids,
    pub(crate) rejected: Ids,
    /// How many tokens of the first were given, at its beginning.
    pub(crate) prompt: usize,
    /// By how much the first is better, where somebody measured it.
    pub(crate) margin: Option<f64>,
    pub(crate) asked: Asked,
}

impl Pair {
    pub(crate) fn sides(&self) -> [&Example; 2] {
        [&self.chosen, &self.rejected]
    }
}

impl Comparison {
    /// The preferred reply's tokens that something stands before.
    pub(crate) fn imitated(&self) -> Range<usize> {
        let all = self.chosen.len();
        self.prompt.max(1).min(all)..all
    }
}

/// Prompts with the completion to imitate; what has nothing left to learn is dropped.
pub(crate) fn completions(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    completion_only: bool,
    report: Report,
) -> Result<Prepared<Example>, StageError> {
    let rows = token_rows(port, source, codec, Purpose::Completions, report)?;
    prepared(port, fit, rows.iter().map(|row| imitated(&row, fit, completion_only)))
}

/// Pairs of completions; a pair without a completion left is dropped.
pub(crate) fn pairs(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    report: Report,
) -> Result<Prepared<Pair>, StageError> {
    let rows = token_rows(port, source, codec, Purpose::Preferences, report)?;
    prepared(port, fit, rows.iter().map(|row| paired(&row, fit)))
}

/// Pairs of whole texts; those that a cut leaves the same are dropped.
pub(crate) fn comparisons(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    report: Report,
) -> Result<Prepared<Comparison>, StageError> {
    let rows = token_rows(port, source, codec, Purpose::Preferences, report)?;
    prepared(port, fit, rows.iter().map(|row| compared(&row, fit)))
}

/// Pairs as a preference model reads them: prompt, one reply and the other, in both orders.
pub(crate) fn contests(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    report: Report,
) -> Result<Prepared<Comparison>, StageError> {
    let rows = token_rows(port, source, codec, Purpose::Preferences, report)?;
    prepared(port, fit, rows.iter().map(|row| contest(&row, fit, codec.eos)))
}

fn prepared<T>(
    port: &'static str,
    fit: Fit,
    made: impl Iterator<Item = Made<T>>,
) -> Result<Prepared<T>, StageError> {
    let (mut rows, mut numbers, mut tally) = (Vec::new(), Vec::new(), Tally::new(port, fit));
    for (number, made) in made.enumerate() {
        if let Some(row) = tally.keep(made) {
            rows.push(row);
            numbers.push(number);
        }
    }
    Ok(Prepared { rows, numbers, tally: tally.some_left()? })
}

/// What stays of a text of which the first `prompt` tokens are not learnt.
fn kept(text: &Ids, prompt: usize, fit: Fit) -> Option<Example> {
    let range = fit.too_long.kept(text.len(), fit.tokens)?;
    let prompt = prompt.saturating_sub(range.start);
    Some(Example::after_prompt(text.part(range), prompt))
}

pub(super) fn imitated(row: &TokenRow<Ids>, fit: Fit, completion_only: bool) -> Made<Example> {
    let prompt = if completion_only { row.prompt } else { 0 };
    match kept(&row.text, prompt, fit) {
        Some(example) if example.marked() > 0 => Made::new(example, row.text.len() > fit.tokens),
        _ => Made::Dropped,
    }
}

pub(super) fn paired(row: &TokenRow<Ids>, fit: Fit) -> Made<Pair> {
    let rejected = row.rejected.as_ref().unwrap_or(&row.text);
    let fills = row.prompt >= fit.tokens && fit.too_long != TooLong::CutStart;
    let kept = |text| kept(text, row.prompt, fit);
    match (kept(&row.text), kept(rejected)) {
        (Some(chosen), Some(rejected_kept)) if !fills => {
            let long = row.text.len().max(rejected.len()) > fit.tokens;
            Made::new(Pair { chosen, rejected: rejected_kept, asked: row.asked }, long)
        }
        _ => Made::Dropped,
    }
}

pub(super) fn compared(row: &TokenRow<Ids>, fit: Fit) -> Made<Comparison> {
    let rejected = row.rejected.as_ref().unwrap_or(&row.text);
    let kept = |text: &Ids| fit.too_long.kept(text.len(), fit.tokens);
    let Some((range, other)) = kept(&row.text).zip(kept(rejected)) else {
        return Made::Dropped;
    };
    let prompt = row.prompt.saturating_sub(range.start);
    let (chosen, rejected_kept) = (row.text.part(range), rejected.part(other));
    let long = row.text.len().max(rejected.len()) > fit.tokens;
    if long && chosen == rejected_kept {
        return Made::Dropped;
    }
    let (margin, asked) = (row.margin, row.asked);
    Made::new(Comparison { chosen, rejected: rejected_kept, prompt, margin, asked }, long)
}

fn contest(row: &TokenRow<Ids>, fit: Fit, eos: u32) -> Made<Comparison> {
    let rejected = row.rejected.as_ref().unwrap_or(&row.text);
    let [chosen, rejected] = [(&row.text, rejected), (rejected, &row.text)]
        .map(|(one, other)| Ids::from(facing(one, other, row.prompt, eos)));
    if chosen.len().max(rejected.len()) > fit.tokens || chosen == rejected {
        return Made::Dropped;
    }
    let (prompt, margin, asked) = (row.prompt, row.margin, row.asked);
    Made::Whole(Comparison { chosen, rejected, prompt, margin, asked })
}

/// One text with two replies to a prompt of so many tokens: the prompt, the one, the end-of-text token, the other.
pub(crate) fn facing(one: &[u32], other: &[u32], prompt: usize, eos: u32) -> Vec<u32> {
    let end = (one.last() != Some(&eos)).then_some(eos);
    let other = &other[prompt.min(other.len())..];
    one.iter().copied().chain(end).chain(other.iter().copied()).collect()
}

/// Prompts, each once.
pub(crate) struct Prompts {
    /// With what else the first row that has it holds.
    pub(crate) rows: Vec<(String, Object)>,
    /// How many rows had a prompt that had come before.
    pub(crate) repeated: usize,
}

/// The first `most` different prompts of any rows that have them.
pub(crate) fn prompts(
    port: &str,
    source: &Source,
    most: Option<usize>,
) -> Result<Prompts, StageError> {
    let (mut seen, mut rows, mut repeated) = (BTreeSet::new(), Vec::new(), 0);
    for row in Reader::open_some(port, source)? {
        let row = row?;
        let prompt = row.prompt().to_owned();
        if seen.insert(prompt.clone()) {
            rows.push((prompt, row.extra));
        } else {
            repeated += 1;
        }
    }
    rows.truncate(most.unwrap_or(usize::MAX));
    Ok(Prompts { rows, repeated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: usize, text: &[u32], rejected: Option<&[u32]>) -> TokenRow<Ids> {
        let ids = |ids: &[u32]| Ids::from(ids.to_vec());
        let rejected = rejected.map(ids);
        TokenRow { text: ids(text), rejected, prompt, margin: None, asked: Asked::of("") }
    }

    #[test]
    fn a_row_cut_to_its_prompt_has_nothing_to_learn_from() {
        let row = row(2, &[1, 2, 3], None);
        let made = |most, too_long| imitated(&row, Fit::of(most, too_long), true);
        assert!(matches!(made(2, TooLong::Cut), Made::Dropped));
        let Made::Cut(kept) = made(1, TooLong::CutStart) else { panic!("it is cut") };
        assert_eq!(kept, Example::after_prompt(vec![3], 0));
        let Made::Whole(kept) = made(3, TooLong::Drop) else { panic!("it fits") };
        assert_eq!(kept, Example::after_prompt(vec![1, 2, 3], 2));
    }

    #[test]
    fn keeping_the_end_moves_where_the_completion_starts() {
        let row = row(3, &[1, 2, 3, 4], Some(&[1, 2, 3, 5, 6, 7]));
        let Made::Cut(pair) = paired(&row, Fit::of(2, TooLong::CutStart)) else {
            panic!("it is cut")
        };
        assert_eq!(pair.chosen, Example::after_prompt(vec![3, 4], 1));
        assert_eq!(pair.rejected, Example::after_prompt(vec![6, 7], 0));
        assert!(matches!(paired(&row, Fit::of(3, TooLong::Cut)), Made::Dropped));
        assert!(matches!(paired(&row, Fit::of(4, TooLong::Cut)), Made::Cut(_)));
        assert!(matches!(paired(&row, Fit::of(4, TooLong::Drop)), Made::Dropped));
    }

    #[test]
    fn a_contest_is_told_in_both_orders_and_has_its_prompt_once() {
        let eos = 9;
        let row = row(2, &[1, 2, 3, eos], Some(&[1, 2, 4, 5]));
        let Made::Whole(made) = contest(&row, Fit::of(7, TooLong::Drop), eos) else {
            panic!("it fits")
        };
        assert_eq!(made.chosen[..], [1, 2, 3, eos, 4, 5]);
        // What does not end by itself is told from what follows, too.
        assert_eq!(made.rejected[..], [1, 2, 4, 5, eos, 3, eos]);
        assert!(matches!(contest(&row, Fit::of(6, TooLong::Drop), eos), Made::Dropped));
    }

    #[test]
    fn texts_that_a_cut_leaves_the_same_are_not_compared() {
        let row = row(1, &[1, 2, 3], Some(&[1, 2, 4]));
        assert!(matches!(compared(&row, Fit::of(2, TooLong::Cut)), Made::Dropped));
        assert!(matches!(compared(&row, Fit::of(2, TooLong::CutStart)), Made::Cut(_)));
        assert!(matches!(compared(&row, Fit::of(3, TooLong::Drop)), Made::Whole(_)));
    }
}
