//! The rules for one row. Where the prompt ends is the delicate part: tokens need not break where
//! the strings do, so prompt and completion are always tokenised together.

use super::token_rows::{Asked, Purpose, TokenRow};
use crate::{
    artifact::{
        dataset::{Fields, PreferenceRow, Row},
        tokenizer::Codec,
    },
    error::StageError,
};

/// The ids of a row, as `purpose` wants them.
pub(crate) fn token_row(
    codec: &Codec,
    row: &Row,
    purpose: Purpose,
) -> Result<TokenRow<Vec<u32>>, StageError> {
    let wanted = || StageError::refused(format!("the rows are no {}", purpose.name()));
    match purpose {
        // Plain text is all prompt.
        Purpose::Text => {
            text(codec, &format!("{}{}", row.prompt(), row.completion().unwrap_or_default()))
        }
        Purpose::Completions => {
            completion(codec, row.prompt(), row.completion().ok_or_else(wanted)?)
        }
        Purpose::Preferences => match &row.fields {
            Fields::Preference(row) => preference(codec, row),
            _ => Err(wanted()),
        },
    }
}

/// Plain text, all of it to be learnt.
fn text(codec: &Codec, text: &str) -> Result<TokenRow<Vec<u32>>, StageError> {
    let text = codec.encode(&ended(codec, text))?;
    Ok(TokenRow { text, rejected: None, prompt: 0, margin: None, asked: Asked::of("") })
}

/// A prompt and the reply to imitate. A last token of the prompt that merges with the reply is part of the reply.
fn completion(codec: &Codec, prompt: &str, reply: &str) -> Result<TokenRow<Vec<u32>>, StageError> {
    let text = whole(codec, prompt, reply)?;
    let asked = Asked::of(prompt);
    let prompt = agreeing(&codec.encode_open(prompt)?, &text);
    Ok(TokenRow { text, rejected: None, prompt, margin: None, asked })
}

/// A preference: the prompt ends where it and both whole texts stop agreeing.
fn preference(codec: &Codec, row: &PreferenceRow) -> Result<TokenRow<Vec<u32>>, StageError> {
    let alone = codec.encode_open(&row.prompt)?;
    let chosen = whole(codec, &row.prompt, &row.chosen)?;
    let rejected = whole(codec, &row.prompt, &row.rejected)?;
    let prompt = agreeing(&alone, &chosen).min(agreeing(&alone, &rejected));
    let (margin, asked) = (row.margin, Asked::of(&row.prompt));
    Ok(TokenRow { text: chosen, rejected: Some(rejected), prompt, margin, asked })
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
pub(super) mod tests {
    use super::*;

    #[test]
    fn an_implicit_prompt_is_the_common_beginning_without_its_last_space() {
        assert_eq!(implicit_prompt("a b c", "a b d"), ("a b", " c", " d"));
        assert_eq!(implicit_prompt("It is not", "It is."), ("It is", " not", "."));
        assert_eq!(implicit_prompt("über", "übel"), ("übe", "r", "l"));
        assert_eq!(implicit_prompt("ab", "abc"), ("a", "b", "bc"));
        assert_eq!(implicit_prompt("a", "b"), ("", "a", "b"));
    }

    /// Letters, of which `a` and `b` merge, and the end token `<e>` with id 0.
    pub(in crate::prepare) fn letters() -> Codec {
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
            let row = completion(&codec, prompt, reply).unwrap();
            (row.text, row.prompt)
        };
        assert_eq!(row("ca", "bc"), (vec![3, 4, 3, 0], 1));
        assert_eq!(row("c", "a<e>"), (vec![3, 1, 0], 1));
        // The end of a prompt does not end the completion.
        assert_eq!(row("c<e>", ""), (vec![3, 0, 0], 2));
        let [prompt, chosen, rejected] = ["ca", "b", "c"].map(str::to_owned);
        let row = PreferenceRow { prompt, chosen, rejected, margin: None };
        let pair = preference(&codec, &row).unwrap();
        assert_eq!((pair.text, pair.prompt), (vec![3, 4, 0], 1));
        assert_eq!(pair.rejected, Some(vec![3, 1, 3, 0]));
    }
}
