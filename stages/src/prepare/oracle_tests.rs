//! What TRL makes of the same rows.

use serde_json::Value;

use super::{
    examples::{compared, imitated, paired},
    packing::{Strategy, pack},
    rows::{implicit_prompt, token_row},
    tally::{Fit, Made},
    token_rows::{Collector, Purpose, TokenRows},
    truncation::TooLong,
};
use crate::{
    artifact::{
        dataset::{CompletionRow, Fields, PreferenceRow, Row, TextRow},
        tokenizer::Codec,
    },
    nn::batch::Example,
    oracles::{self, Case},
};

fn prepared(trainer: &str) -> Option<(Codec, Vec<Case>)> {
    let (folder, cases) = oracles::prepared(trainer)?;
    Some((Codec::open(&folder.join("tokenizer")).unwrap(), cases))
}

fn fit(case: &Case) -> Fit {
    let too_long = match case.options["truncation_mode"].as_str() {
        Some("keep_end") => TooLong::CutStart,
        _ => TooLong::Cut,
    };
    Fit::of(case.max_length(), too_long)
}

fn fields(row: &Value) -> Fields {
    let text = |name| oracles::text(row, name);
    if let Some(text) = text("text") {
        return Fields::Text(TextRow { text });
    }
    if let Some(completion) = text("completion") {
        return Fields::PromptCompletion(CompletionRow {
            prompt: text("prompt").unwrap(),
            completion,
        });
    }
    let (chosen, rejected) = (text("chosen").unwrap(), text("rejected").unwrap());
    let margin = row["margin"].as_f64();
    if let Some(prompt) = text("prompt") {
        return Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin });
    }
    let (prompt, chosen, rejected) = implicit_prompt(&chosen, &rejected);
    let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
    Fields::Preference(PreferenceRow { prompt, chosen, rejected, margin })
}

fn rows(case: &Case, codec: &Codec, purpose: Purpose) -> TokenRows {
    let mut collector = Collector::in_memory(purpose);
    for row in &case.rows {
        collector.push(token_row(codec, &Row::from(fields(row)), purpose).unwrap()).unwrap();
    }
    collector.finish().unwrap()
}

fn kept<T>(made: Made<T>) -> Option<T> {
    match made {
        Made::Whole(row) | Made::Cut(row) => Some(row),
        Made::Dropped => None,
    }
}

/// The labels as TRL has them: of a row, or of rows packed into one.
fn labels(examples: &[Example]) -> Vec<i64> {
    let of = |example: &Example| {
        let learnt = example.mask().collect::<Vec<_>>();
        let ids = example.ids.to_vec();
        ids.into_iter().zip(learnt).map(|(id, learn)| if learn { i64::from(id) } else { -100 })
    };
    examples.iter().flat_map(of).collect()
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

#[test]
fn oracle_sft_rows() {
    let Some((codec, cases)) = prepared("sft") else { return };
    for case in cases {
        let texts = case.rows.iter().all(|row| row["text"].is_string());
        let purpose = if texts { Purpose::Text } else { Purpose::Completions };
        let rows = rows(&case, &codec, purpose);
        let bins: Vec<Vec<Example>> = if case.options["packing"] == true {
            let strategy = case.options["packing_strategy"].as_str().unwrap_or("bfd");
            let bins = pack(rows.texts(), case.max_length(), Strategy::named(strategy));
            let example = |range| Example::after_prompt(rows.ids().part(range), 0);
            bins.into_iter().map(|bin| bin.into_iter().map(example).collect()).collect()
        } else {
            let only = case.options["completion_only_loss"].as_bool().unwrap_or(true);
            let made = rows.iter().map(|row| imitated(&row, fit(&case), only));
            made.filter_map(kept).map(|example| vec![example]).collect()
        };
        assert_eq!(bins.len(), case.expected.len(), "{}", case.name);
        for (bin, expected) in bins.iter().zip(&case.expected) {
            let ids: Vec<u32> = bin.iter().flat_map(|example| example.ids.to_vec()).collect();
            assert_eq!(ids, oracles::ids(&expected["input_ids"]), "{}", case.name);
            assert_eq!(labels(bin), numbers(&expected["labels"]), "{}", case.name);
            if expected["seq_lengths"].is_array() {
                let lengths: Vec<u32> =
                    bin.iter().map(|it| it.ids.len().try_into().unwrap()).collect();
                assert_eq!(lengths, oracles::ids(&expected["seq_lengths"]), "{}", case.name);
            }
        }
    }
}

#[test]
fn oracle_dpo_rows() {
    let Some((codec, cases)) = prepared("dpo") else { return };
    for case in cases {
        let rows = rows(&case, &codec, Purpose::Preferences);
        let made = rows.iter().map(|row| (paired(&row, fit(&case)), row));
        let pairs: Vec<_> = made.filter_map(|(made, row)| Some((kept(made)?, row))).collect();
        assert_eq!(pairs.len(), case.expected.len(), "{}", case.name);
        for ((_, row), expected) in pairs.iter().zip(&case.expected) {
            let rejected = row.rejected.as_ref().unwrap();
            assert_eq!(
                row.text[..row.prompt],
                oracles::ids(&expected["prompt_ids"]),
                "{}",
                case.name
            );
            assert_eq!(
                row.text[row.prompt..],
                oracles::ids(&expected["chosen_ids"]),
                "{}",
                case.name
            );
            assert_eq!(
                rejected[row.prompt..],
                oracles::ids(&expected["rejected_ids"]),
                "{}",
                case.name
            );
        }
        let sides = |side: fn(&super::examples::Pair) -> &Example| {
            pairs.iter().map(move |(pair, _)| side(pair))
        };
        for (index, row) in
            sides(|pair| &pair.chosen).chain(sides(|pair| &pair.rejected)).enumerate()
        {
            let real = numbers(&case.collated["attention_mask"][index]);
            let real = real.iter().filter(|&&one| one == 1).count();
            let ids = oracles::ids(&case.collated["input_ids"][index]);
            assert_eq!(*row.ids, ids[..real], "{} {index}", case.name);
            let mask = numbers(&case.collated["completion_mask"][index]);
            let learnt: Vec<i64> = row.mask().map(i64::from).collect();
            assert_eq!(learnt, mask[..real], "{} {index}", case.name);
        }
    }
}

#[test]
fn oracle_reward_rows() {
    let Some((codec, cases)) = prepared("reward") else { return };
    for case in cases {
        let fit = Fit::of(case.max_length(), TooLong::Drop);
        let rows = rows(&case, &codec, Purpose::Preferences);
        let found: Vec<_> = rows.iter().filter_map(|row| kept(compared(&row, fit))).collect();
        assert_eq!(found.len(), case.expected.len(), "{}", case.name);
        for (row, expected) in found.iter().zip(&case.expected) {
            assert_eq!(*row.chosen, oracles::ids(&expected["chosen_ids"]), "{}", case.name);
            assert_eq!(*row.rejected, oracles::ids(&expected["rejected_ids"]), "{}", case.name);
            assert_eq!(row.margin, expected["margin"].as_f64(), "{}", case.name);
        }
    }
}
