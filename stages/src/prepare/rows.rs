//! The rules for one row. Where the prompt ends is the delicate part: tokens need not break where
//! the strings do, so prompt and completion are always tokenised together.

use crate::{
    artifact::{
        dataset::{CompletionRow, PreferenceRow},
        tokenizer::Codec,
    },
    error::StageError,
    prepare::truncation::Truncation,
};

/// The label of a token that no loss counts.
pub(crate) const IGNORED: i64 = -100;

/// A row to imitate: `labels` are the ids, or [`IGNORED`]. Not shifted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labelled {
    pub(crate) ids: Vec<u32>,
    pub(crate) labels: Vec<i64>,
}

/// A prompt with two replies, as ids.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub(crate) prompt: Vec<u32>,
    pub(crate) chosen: Vec<u32>,
    pub(crate) rejected: Vec<u32>,
}

/// Two whole texts to be scored, prompt included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) chosen: Vec<u32>,
    pub(crate) rejected: Vec<u32>,
    pub(crate) margin: Option<f64>,
}

/// A row of a batch: ids, and from where on they are completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    pub(crate) ids: Vec<u32>,
    pub(crate) prompt_length: usize,
}

/// Plain text, all of it to be learnt.
pub(crate) fn text(codec: &Codec, text: &str) -> Result<Labelled, StageError> {
    let ids = codec.encode(&ended(codec, text))?;
    let labels = ids.iter().map(|&id| i64::from(id)).collect();
    Ok(Labelled { ids, labels })
}

/// A prompt and the reply to imitate; `completion_only` leaves the prompt out of the loss.
pub(crate) fn completion(
    codec: &Codec,
    row: &CompletionRow,
    completion_only: bool,
) -> Result<Labelled, StageError> {
    let ids = whole(codec, &row.prompt, &row.completion)?;
    let mut labels: Vec<_> = ids.iter().map(|&id| i64::from(id)).collect();
    if completion_only {
        // A last token of the prompt that merges with the reply is learnt as part of it.
        let masked = agreeing(&codec.encode_open(&row.prompt)?, &ids);
        labels[..masked].fill(IGNORED);
    }
    Ok(Labelled { ids, labels })
}

/// Cuts a row to `most` tokens; `None` when nothing is left to learn from.
pub(crate) fn truncated(row: &Labelled, most: usize, keep: Truncation) -> Option<Labelled> {
    let labels = keep.cut(&row.labels, most).to_vec();
    let ids = keep.cut(&row.ids, most).to_vec();
    labels.iter().any(|&label| label != IGNORED).then_some(Labelled { ids, labels })
}

/// A preference: the prompt ends where it and both whole texts stop agreeing.
pub(crate) fn pair(codec: &Codec, row: &PreferenceRow) -> Result<Pair, StageError> {
    let alone = codec.encode_open(&row.prompt)?;
    let chosen = whole(codec, &row.prompt, &row.chosen)?;
    let rejected = whole(codec, &row.prompt, &row.rejected)?;
    let end = agreeing(&alone, &chosen).min(agreeing(&alone, &rejected));
    Ok(Pair {
        prompt: alone[..end].to_vec(),
        chosen: chosen[end..].to_vec(),
        rejected: rejected[end..].to_vec(),
    })
}

impl Pair {
    /// Says whether a batch with rows of at most `most` tokens has something of both replies.
    pub(crate) fn fits(&self, most: usize, keep: Truncation) -> bool {
        keep == Truncation::KeepEnd || self.prompt.len() < most
    }

    /// The rows that a batch holds: chosen, rejected.
    pub(crate) fn joined(&self, most: usize, keep: Truncation) -> [Joined; 2] {
        [&self.chosen, &self.rejected].map(|reply| {
            let all = [self.prompt.as_slice(), reply].concat();
            let ids = keep.cut(&all, most).to_vec();
            let prompt_length = match keep {
                Truncation::KeepStart => self.prompt.len().min(ids.len()),
                Truncation::KeepEnd => ids.len().saturating_sub(reply.len()),
            };
            Joined { ids, prompt_length }
        })
    }
}

/// A preference for a reward model; `None` when either side is longer than `most` tokens.
pub(crate) fn scored(
    codec: &Codec,
    row: &PreferenceRow,
    most: Option<usize>,
) -> Result<Option<Scored>, StageError> {
    let chosen = whole(codec, &row.prompt, &row.chosen)?;
    let rejected = whole(codec, &row.prompt, &row.rejected)?;
    let fits = most.is_none_or(|most| chosen.len().max(rejected.len()) <= most);
    Ok(fits.then_some(Scored { chosen, rejected, margin: row.margin }))
}

fn whole(codec: &Codec, prompt: &str, reply: &str) -> Result<Vec<u32>, StageError> {
    codec.encode(&format!("{prompt}{}", ended(codec, reply)))
}

/// The text with the end-of-text token, unless it ends in it.
fn ended(codec: &Codec, text: &str) -> String {
    let end = if text.ends_with(&codec.eos_text) { "" } else { &codec.eos_text };
    format!("{text}{end}")
}

fn agreeing(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Takes an implicit prompt out of two whole texts: what they begin with in common. A space just
/// before the difference goes with the replies. Where one text continues the other, its last
/// letter counts as the difference, so that no reply is empty.
pub(crate) fn implicit_prompt<'a>(
    chosen: &'a str,
    rejected: &'a str,
) -> (&'a str, &'a str, &'a str) {
    let common = || chosen.char_indices().zip(rejected.chars());
    let differs = common().find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let end = match differs {
        Some(at) if chosen[..at].ends_with(' ') => at - 1,
        Some(at) => at,
        None => common().last().map_or(0, |((at, _), _)| at),
    };
    (&chosen[..end], &chosen[end..], &rejected[end..])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        oracles::{self, Case},
        prepare::packing,
    };

    #[test]
    fn an_implicit_prompt_is_the_common_beginning_without_its_last_space() {
        assert_eq!(implicit_prompt("a b c", "a b d"), ("a b", " c", " d"));
        assert_eq!(implicit_prompt("It is not", "It is."), ("It is", " not", "."));
        assert_eq!(implicit_prompt("über", "übel"), ("übe", "r", "l"));
        assert_eq!(implicit_prompt("ab", "abc"), ("a", "b", "bc"));
        assert_eq!(implicit_prompt("a", "b"), ("", "a", "b"));
    }

    #[test]
    fn a_row_cut_to_its_prompt_has_nothing_to_learn_from() {
        let row = Labelled { ids: vec![1, 2, 3], labels: vec![IGNORED, IGNORED, 3] };
        assert_eq!(truncated(&row, 2, Truncation::KeepStart), None);
        let kept = truncated(&row, 1, Truncation::KeepEnd).unwrap();
        assert_eq!((kept.ids, kept.labels), (vec![3], vec![3]));
    }

    #[test]
    fn keeping_the_end_moves_where_the_completion_starts() {
        let pair = Pair { prompt: vec![1, 2, 3], chosen: vec![4], rejected: vec![5, 6, 7] };
        let [chosen, rejected] = pair.joined(2, Truncation::KeepEnd);
        assert_eq!((chosen.ids, chosen.prompt_length), (vec![3, 4], 1));
        assert_eq!((rejected.ids, rejected.prompt_length), (vec![6, 7], 0));
        assert!(!pair.fits(3, Truncation::KeepStart));
        assert!(pair.fits(4, Truncation::KeepStart));
    }

    /// Letters, of which `a` and `b` merge, and the end token `<e>` with id 0.
    fn letters() -> Codec {
        let folder = tempfile::tempdir().unwrap();
        let end = r#"{"id": 0, "content": "<e>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}"#;
        let vocabulary = r#"{"<e>": 0, "a": 1, "b": 2, "c": 3, "ab": 4}"#;
        let tokenizer = format!(
            r#"{{"added_tokens": [{end}],
                "model": {{"type": "BPE", "vocab": {vocabulary}, "merges": ["a b"]}}}}"#
        );
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        let config = folder.path().join("tokenizer_config.json");
        std::fs::write(config, r#"{"eos_token": "<e>"}"#).unwrap();
        Codec::open(folder.path()).unwrap()
    }

    #[test]
    fn a_completion_begins_where_the_prompt_alone_has_other_tokens() {
        let codec = letters();
        let row = |prompt: &str, reply: &str| {
            let row = CompletionRow { prompt: prompt.to_owned(), completion: reply.to_owned() };
            let row = completion(&codec, &row, true).unwrap();
            (row.ids, row.labels)
        };
        assert_eq!(row("ca", "bc"), (vec![3, 4, 3, 0], vec![IGNORED, 4, 3, 0]));
        assert_eq!(row("c", "a<e>"), (vec![3, 1, 0], vec![IGNORED, 1, 0]));
        // The end of a prompt does not end the completion.
        assert_eq!(row("c<e>", ""), (vec![3, 0, 0], vec![IGNORED, IGNORED, 0]));
        let [prompt, chosen, rejected] = ["ca", "b", "c"].map(str::to_owned);
        let row = PreferenceRow { prompt, chosen, rejected, margin: None };
        let pair = pair(&codec, &row).unwrap();
        assert_eq!((pair.prompt, pair.chosen), (vec![3], vec![4, 0]));
        assert_eq!(pair.rejected, [1, 3, 0]);
    }

    fn prepared(trainer: &str) -> Option<(Codec, Vec<Case>)> {
        let (folder, cases) = oracles::prepared(trainer)?;
        Some((Codec::open(&folder.join("tokenizer")).unwrap(), cases))
    }

    fn labelled(case: &Case, codec: &Codec) -> Vec<Labelled> {
        let completion_only = case.options["completion_only_loss"].as_bool().unwrap_or(true);
        let rows = case.rows.iter().map(|row| {
            if let Some(plain) = oracles::text(row, "text") {
                return text(codec, &plain).unwrap();
            }
            let [prompt, reply] =
                ["prompt", "completion"].map(|name| oracles::text(row, name).unwrap());
            let row = CompletionRow { prompt, completion: reply };
            completion(codec, &row, completion_only).unwrap()
        });
        rows.collect()
    }

    fn preferences(case: &Case) -> Vec<PreferenceRow> {
        let rows = case.rows.iter().map(|row| {
            let [chosen, rejected] =
                ["chosen", "rejected"].map(|name| oracles::text(row, name).unwrap());
            let margin = row["margin"].as_f64();
            if let Some(prompt) = oracles::text(row, "prompt") {
                return PreferenceRow { prompt, chosen, rejected, margin };
            }
            let (prompt, chosen, rejected) = implicit_prompt(&chosen, &rejected);
            let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
            PreferenceRow { prompt, chosen, rejected, margin }
        });
        rows.collect()
    }

    fn truncation(case: &Case) -> Truncation {
        match case.options["truncation_mode"].as_str() {
            Some("keep_end") => Truncation::KeepEnd,
            _ => Truncation::KeepStart,
        }
    }

    fn labels(value: &Value) -> Vec<i64> {
        value.as_array().unwrap().iter().map(|label| label.as_i64().unwrap()).collect()
    }

    #[test]
    fn oracle_sft_rows() {
        let Some((codec, cases)) = prepared("sft") else { return };
        for case in cases {
            let mut rows = labelled(&case, &codec);
            let most = case.max_length();
            if case.options["packing"] == true {
                let strategy = case.options["packing_strategy"].as_str().unwrap_or("bfd");
                let packed = packing::pack(&rows, most, packing::Strategy::named(strategy));
                let lengths: Vec<_> = packed.iter().map(|row| row.lengths.clone()).collect();
                for (row, lengths) in case.expected.iter().zip(lengths) {
                    if let Some(expected) = row["seq_lengths"].as_array() {
                        let expected: Vec<_> =
                            expected.iter().map(|length| length.as_u64().unwrap()).collect();
                        let lengths: Vec<_> = lengths.iter().map(|&n| n as u64).collect();
                        assert_eq!(lengths, expected, "{}", case.name);
                    }
                }
                rows = packed.into_iter().map(|row| row.row).collect();
            } else {
                let keep = truncation(&case);
                rows = rows.iter().filter_map(|row| truncated(row, most, keep)).collect();
            }
            let expected = case.expected.iter().map(|row| Labelled {
                ids: oracles::ids(&row["input_ids"]),
                labels: labels(&row["labels"]),
            });
            assert_eq!(rows, expected.collect::<Vec<_>>(), "{}", case.name);
        }
    }

    #[test]
    fn oracle_dpo_rows() {
        let Some((codec, cases)) = prepared("dpo") else { return };
        for case in cases {
            let (most, keep) = (case.max_length(), truncation(&case));
            let pairs = preferences(&case).into_iter().map(|row| pair(&codec, &row).unwrap());
            let pairs: Vec<_> = pairs.filter(|pair| pair.fits(most, keep)).collect();
            let expected = case.expected.iter().map(|row| Pair {
                prompt: oracles::ids(&row["prompt_ids"]),
                chosen: oracles::ids(&row["chosen_ids"]),
                rejected: oracles::ids(&row["rejected_ids"]),
            });
            assert_eq!(pairs, expected.collect::<Vec<_>>(), "{}", case.name);
            let joined = pairs.iter().map(|pair| pair.joined(most, keep));
            let (chosen, rejected): (Vec<_>, Vec<_>) = joined.map(<(_, _)>::from).unzip();
            for (index, row) in chosen.iter().chain(&rejected).enumerate() {
                let real = case.collated["attention_mask"][index].as_array().unwrap();
                let real = real.iter().filter(|&one| *one == 1).count();
                let ids = oracles::ids(&case.collated["input_ids"][index]);
                assert_eq!(row.ids, ids[..real], "{} {index}", case.name);
                let mask = case.collated["completion_mask"][index].as_array().unwrap();
                let start = mask.iter().position(|one| *one == 1).unwrap_or(real);
                assert_eq!(row.prompt_length, start, "{} {index}", case.name);
            }
        }
    }

    #[test]
    fn oracle_reward_rows() {
        let Some((codec, cases)) = prepared("reward") else { return };
        for case in cases {
            let most = Some(case.max_length());
            let rows = preferences(&case);
            let rows = rows.iter().filter_map(|row| scored(&codec, row, most).unwrap());
            let expected = case.expected.iter().map(|row| Scored {
                chosen: oracles::ids(&row["chosen_ids"]),
                rejected: oracles::ids(&row["rejected_ids"]),
                margin: row["margin"].as_f64(),
            });
            assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{}", case.name);
        }
    }
}
