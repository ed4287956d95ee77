//! Which rows belong together, so that what was learnt from one tells nothing new about another.

use std::collections::{BTreeSet, HashMap};

/// For each prompt the shortest prompt that it begins with: itself, if there is no shorter one.
///
/// A dialogue that goes on is a longer prompt with the same beginning. In sorted order all prompts with one
/// beginning follow it at once, so a single pass finds the groups.
pub(crate) fn by_beginning<'a>(
    prompts: impl Iterator<Item = &'a str>,
) -> HashMap<&'a str, &'a str> {
    let sorted: BTreeSet<&str> = prompts.collect();
    let mut group = None;
    let grouped = sorted.into_iter().map(|prompt| {
        let root = group.filter(|root| prompt.starts_with(root)).unwrap_or(prompt);
        group = Some(root);
        (prompt, root)
    });
    grouped.collect()
}

/// How many prompts of `test` belong with a prompt of `train`: numbers measured on those flatter.
pub(crate) fn shared<'a>(
    train: impl Iterator<Item = &'a str> + Clone,
    test: impl Iterator<Item = &'a str> + Clone,
) -> usize {
    let groups = by_beginning(train.clone().chain(test.clone()));
    let seen: BTreeSet<&str> = train.map(|prompt| groups[prompt]).collect();
    let test: BTreeSet<&str> = test.collect();
    test.into_iter().filter(|prompt| seen.contains(groups[prompt])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_with_a_common_beginning_that_is_a_prompt_belong_together() {
        let groups = by_beginning(["ab", "a", "abc", "b", "ba", "ad", "c"].into_iter());
        let group = |prompt: &str| groups[prompt];
        assert_eq!(["a", "ab", "abc", "ad"].map(group), ["a"; 4]);
        assert_eq!(["b", "ba", "c"].map(group), ["b", "b", "c"]);
    }

    #[test]
    fn a_test_prompt_is_shared_if_a_training_prompt_goes_on_with_it_or_the_other_way_round() {
        let train = ["hello", "good day, sir"];
        let test = ["hello", "hello", "hello you", "good day", "bye"];
        assert_eq!(shared(train.into_iter(), test.into_iter()), 3);
    }
}
