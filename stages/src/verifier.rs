//! Verifiers: whether a completion has the answer that its prompt's row holds, or the form that was asked for.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a completion is held against an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Match {
    /// The last number in it is the last number of the answer, whatever its commas and trailing zeros.
    #[default]
    Number,
    /// As `number`, where the answer stands behind `####`, as in GSM8K; so must the completion's if it has that mark.
    Gsm8k,
    /// It is the answer, but for blanks around it.
    Exact,
    /// The answer is a regular expression that it matches somewhere.
    Regex,
}

impl Match {
    /// Whether `completion` has `answer`; an error if that cannot be asked.
    pub(crate) fn holds(self, completion: &str, answer: &str) -> Result<bool, String> {
        match self {
            Self::Exact => Ok(completion.trim() == answer.trim()),
            Self::Regex => compiled(answer).map(|it| it.is_match(completion)),
            Self::Number | Self::Gsm8k => {
                let behind = |text: &str| -> String {
                    let marked = if self == Self::Gsm8k { text.rsplit_once("####") } else { None };
                    marked.map_or(text, |(_, behind)| behind).to_owned()
                };
                let wanted = last_number(&behind(answer))
                    .ok_or_else(|| format!("the answer `{answer}` has no number"))?;
                Ok(last_number(&behind(completion)) == Some(wanted))
            }
        }
    }
}

pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("`{pattern}` is no regular expression: {error}"))
}

/// The last number in a text in one way of writing: `1,234.50` is `1234.5`.
pub(crate) fn last_number(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    let words = text.split(|c: char| !is_part(c)).rev();
    words.into_iter().find_map(|word| {
        let word = word.trim_matches([',', '.']).trim_end_matches('-');
        // `3-5` is a range, and its last number 5; a minus begins one.
        let digits =
            word.rfind('-').map_or(word, |at| if at == 0 { word } else { &word[at + 1..] });
        let plain = digits.replace(',', "");
        let value: f64 = plain.parse().ok()?;
        // What a float holds exactly is told by its value, longer ones by their letters.
        let exact = value.abs() < 1e15;
        Some(if exact { format!("{value}") } else { plain.trim_start_matches('0').to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts_however_it_is_written() {
        for (text, number) in [
            ("so 12 + 7 = 19.", "19"),
            ("It is $1,234.50 in all", "1234.5"),
            ("-3", "-3"),
            ("between 3-5", "5"),
            ("5.0", "5"),
            ("3 apples.", "3"),
        ] {
            assert_eq!(last_number(text).as_deref(), Some(number), "{text}");
        }
        assert_eq!(last_number("none at all - ."), None);
    }

    #[test]
    fn an_answer_is_found_in_the_way_that_was_asked_for() {
        let holds =
            |how: Match, completion: &str, answer: &str| how.holds(completion, answer).unwrap();
        assert!(holds(Match::Number, " The answer is 19.", "19"));
        assert!(!holds(Match::Number, " It is 19, or 20", "19"));
        let answer = "He has 3 + 4 = 7 apples.\n#### 7";
        assert!(holds(Match::Gsm8k, "3 + 4 = 7\n#### 7", answer));
        assert!(holds(Match::Gsm8k, "that makes 7", answer));
        assert!(!holds(Match::Gsm8k, "7\n#### 8", answer));
        assert!(holds(Match::Exact, " yes\n", "yes") && !holds(Match::Exact, "yes!", "yes"));
        assert!(holds(Match::Regex, "<a>7</a>", "<a>[0-9]+</a>"));
        assert!(Match::Number.holds("7", "seven").unwrap_err().contains("has no number"));
        assert!(Match::Regex.holds("7", "[").unwrap_err().contains("no regular expression"));
    }
}
