//! Where the prompt ends in two texts that both begin with it.

use crate::prepare::rows::implicit_prompt;

/// Prompt, chosen reply and rejected reply. With `end`, the prompt goes up to and with its last
/// occurrence in what both texts begin with; without, it is all of that, by TRL's rule.
pub(crate) fn parts<'a>(
    chosen: &'a str,
    rejected: &'a str,
    end: Option<&str>,
) -> Result<[&'a str; 3], String> {
    let Some(end) = end else {
        let (prompt, chosen, rejected) = implicit_prompt(chosen, rejected);
        if prompt.is_empty() {
            return Err("`chosen` and `rejected` have no beginning in common to be the prompt: \
                 add a column `prompt`, or name it under `columns`"
                .to_owned());
        }
        return Ok([prompt, chosen, rejected]);
    };
    let common = &chosen[..common(chosen, rejected)];
    let at = common.rfind(end).ok_or_else(|| {
        format!(
            "`prompt_end` (`{}`) does not occur in what `chosen` and `rejected` begin with in common",
            end.escape_debug()
        )
    })?;
    let at = at + end.len();
    if at == chosen.len() || at == rejected.len() {
        return Err("there is no reply behind `prompt_end`".to_owned());
    }
    Ok([&chosen[..at], &chosen[at..], &rejected[at..]])
}

/// How many bytes two texts have in common at their beginning, in whole characters.
fn common(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(letter, _)| letter.len_utf8()).sum()
}

/// Says whether the prompt breaks off in a word that a reply goes on with.
pub(crate) fn ends_inside_a_word(prompt: &str, replies: [&str; 2]) -> bool {
    let goes_on = |reply: &str| reply.chars().next().is_some_and(char::is_alphanumeric);
    prompt.chars().next_back().is_some_and(char::is_alphanumeric)
        && replies.into_iter().any(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Option<&str> = Some("\nA:");

    #[test]
    fn the_last_end_of_a_prompt_that_both_texts_have_counts() {
        let (chosen, rejected) = ("Q: a\nA: b\nQ: c\nA: say no", "Q: a\nA: b\nQ: c\nA: say yes");
        let found = parts(chosen, rejected, END).unwrap();
        assert_eq!(found, ["Q: a\nA: b\nQ: c\nA:", " say no", " say yes"]);
        // What only one of them has is reply.
        let found = parts("Q\nA: b\nA: c", "Q\nA: d", END).unwrap();
        assert_eq!(found, ["Q\nA:", " b\nA: c", " d"]);
    }

    #[test]
    fn a_pair_without_the_end_or_without_a_reply_is_refused() {
        insta::assert_snapshot!(parts("Q: a b", "Q: a c", END).unwrap_err(), @r"`prompt_end` (`\nA:`) does not occur in what `chosen` and `rejected` begin with in common");
        insta::assert_snapshot!(parts("Q\nA:", "Q\nA: c", END).unwrap_err(), @"there is no reply behind `prompt_end`");
        assert!(parts("a", "b", None).unwrap_err().contains("add a column `prompt`"));
    }

    #[test]
    fn a_prompt_ends_inside_a_word_where_a_reply_goes_on_with_it() {
        assert!(ends_inside_a_word("Sure, th", ["en", "at"]));
        assert!(ends_inside_a_word("Yes", [".", "terday"]));
        assert!(!ends_inside_a_word("It is", [" not", "."]));
        assert!(!ends_inside_a_word("A: ", ["b", "c"]));
    }
}
