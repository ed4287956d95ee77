//! How different the completions of one prompt are from each other. Words are what blanks part.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    nn::statistics::{Estimate, Outcomes, mean, mean_of, rate_of},
    verifier::last_number,
};

/// The completions of one prompt.
pub(super) type Group<'a> = Vec<&'a str>;

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn n_grams<'w, 't>(words: &'w [&'t str], n: usize) -> impl Iterator<Item = &'w [&'t str]> {
    words.windows(n)
}

/// The share of completions that repeat one of the same prompt before them, with its interval over prompts.
pub(super) fn duplicates(groups: &[Group]) -> Option<Estimate> {
    let of_prompt = |group: &Group| {
        let different: BTreeSet<_> = group.iter().collect();
        let repeated = group.len() - different.len();
        Outcomes { sum: repeated as f64 / group.len().max(1) as f64, count: 1.0 }
    };
    rate_of(&groups.iter().map(of_prompt).collect::<Vec<_>>())
}

/// distinct-n (Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.1): different n-grams
/// over all n-grams, here of the completions of a prompt together, the mean over prompts. Prompts whose completions are all shorter than
/// `n` words are left out. It falls with more samples and longer ones.
pub(super) fn distinct(groups: &[Group], n: usize) -> Option<Estimate> {
    let of_prompt = |group: &Group| {
        let words: Vec<Vec<&str>> = group.iter().map(|text| words(text)).collect();
        let all: Vec<&[&str]> = words.iter().flat_map(|words| n_grams(words, n)).collect();
        let different: BTreeSet<_> = all.iter().collect();
        (!all.is_empty()).then(|| different.len() as f64 / all.len() as f64)
    };
    mean_of(&groups.iter().filter_map(of_prompt).collect::<Vec<_>>())
}

/// Expectation-adjusted distinct words (Liu et al. 2022, "Rethinking and Refining the Distinct Metric", eq. 3) over all completions: different
/// words over how many different ones as many draws from a vocabulary of `vocabulary` words would have. Unlike distinct-1 it does not fall
/// with length. None without words.
pub(super) fn adjusted(groups: &[Group], vocabulary: usize) -> Option<f64> {
    let all: Vec<&str> = groups.iter().flatten().flat_map(|text| text.split_whitespace()).collect();
    let different = all.iter().collect::<BTreeSet<_>>().len();
    let v = vocabulary as f64;
    let expected = v * (1.0 - ((v - 1.0) / v).powf(all.len() as f64));
    (!all.is_empty() && vocabulary > 0).then(|| different as f64 / expected)
}

/// The different words of all completions.
pub(super) fn vocabulary<'g>(groups: impl Iterator<Item = &'g Group<'g>>) -> usize {
    let all = groups.flatten().flat_map(|text| text.split_whitespace());
    all.collect::<BTreeSet<_>>().len()
}

/// Self-BLEU (Zhu et al. 2018, "Texygen", section 3.2.2): BLEU of each completion against the others of its prompt, the mean over completions
/// and then over prompts. 1 where all are alike. Prompts with a single completion are left out.
pub(super) fn self_bleu(groups: &[Group]) -> Option<Estimate> {
    let of_prompt = |group: &Group| {
        let words: Vec<Vec<&str>> = group.iter().map(|text| words(text)).collect();
        let against_others = |at: usize| {
            let others: Vec<&[&str]> =
                (0..words.len()).filter(|it| *it != at).map(|it| &words[it][..]).collect();
            bleu(&words[at], &others)
        };
        (words.len() > 1).then(|| mean(&(0..words.len()).map(against_others).collect::<Vec<_>>()))
    };
    mean_of(&groups.iter().filter_map(of_prompt).collect::<Vec<_>>())
}

/// Of n-grams that nothing matches, so many count as matched (Chen & Cherry 2014, smoothing 1).
const SMOOTHING: f64 = 0.1;

/// BLEU (Papineni et al. 2002, section 2.3) with n-grams of up to four words, or of as many as there are.
fn bleu(said: &[&str], references: &[&[&str]]) -> f64 {
    let longest = said.len().min(4);
    if longest == 0 {
        return f64::from(references.iter().any(|it| it.is_empty()));
    }
    let precision = |n: usize| {
        let counted = |words| {
            let mut counts: BTreeMap<&[&str], usize> = BTreeMap::new();
            n_grams(words, n).for_each(|it| *counts.entry(it).or_default() += 1);
            counts
        };
        let known: Vec<_> = references.iter().map(|it| counted(it)).collect();
        let own = counted(said);
        let clipped = own.iter().map(|(it, count)| {
            let most = known.iter().filter_map(|known| known.get(it)).max();
            (*count).min(most.copied().unwrap_or(0))
        });
        let matched: usize = clipped.sum();
        let all: usize = own.values().sum();
        if matched == 0 { SMOOTHING / all as f64 } else { matched as f64 / all as f64 }
    };
    let logs: Vec<f64> = (1..=longest).map(|n| precision(n).ln()).collect();
    // Of references that are as near in length the shorter one.
    let nearest =
        references.iter().map(|it| it.len()).min_by_key(|it| (it.abs_diff(said.len()), *it));
    let ratio = nearest.unwrap_or(0) as f64 / said.len() as f64;
    (mean(&logs) + (1.0 - ratio).min(0.0)).exp()
}

/// How many different answers the completions of a prompt have, that is last numbers, the mean over prompts. None where no completion
/// has a number.
pub(super) fn answers(groups: &[Group]) -> Option<Estimate> {
    let of_prompt = |group: &Group| {
        group.iter().filter_map(|it| last_number(it)).collect::<BTreeSet<_>>().len()
    };
    let counts: Vec<f64> = groups.iter().map(|it| of_prompt(it) as f64).collect();
    if counts.iter().any(|it| *it > 0.0) { mean_of(&counts) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, by_hand: f64) {
        assert!((found - by_hand).abs() < 1e-12, "{found} {by_hand}");
    }

    #[test]
    fn what_repeats_is_counted_within_a_prompt() {
        let groups = [vec!["a b", "a b", "c", "a b"], vec!["a b", "c", "d", "e"]];
        close(duplicates(&groups).unwrap().value, 0.25);
        assert!(duplicates(&groups).unwrap().interval.is_some());
    }

    #[test]
    fn distinct_n_grams_by_hand() {
        // a b a, a c: three of five words, and ab ba ac are all different.
        let groups = [vec!["a b a", "a c"], vec!["d"]];
        close(distinct(&groups, 1).unwrap().value, f64::midpoint(3.0 / 5.0, 1.0));
        close(distinct(&groups, 2).unwrap().value, 1.0);
        assert_eq!(distinct(&groups, 4), None);
        // Three of the four words are said in six draws: of four, 4 (1 − (3/4)^6) would be.
        assert_eq!(vocabulary(groups.iter()), 4);
        close(adjusted(&groups, 4).unwrap(), 4.0 / (4.0 * (1.0 - 0.75_f64.powi(6))));
        assert_eq!(adjusted(&[vec![" "]], 4), None);
    }

    #[test]
    fn self_bleu_is_one_of_equal_texts_and_small_of_unlike_ones() {
        close(self_bleu(&[vec!["a b c d e", "a b c d e"]]).unwrap().value, 1.0);
        // No word in common: 0.1 of two words, and of one pair.
        close(bleu(&["a", "b"], &[&["c", "d"]]), (0.05_f64 * 0.1).sqrt());
        // Both words, one of one pair; the reference is half as long again: e^(1 − 3/2).
        close(bleu(&["a", "b"], &[&["a", "b", "c"]]), (-0.5_f64).exp());
        // A word counts as often as a reference has it.
        close(bleu(&["a", "a"], &[&["a", "b"]]), (0.5_f64 * 0.1).sqrt());
        assert_eq!(self_bleu(&[vec!["alone"]]), None);
    }

    #[test]
    fn different_answers_are_counted_however_they_are_put() {
        let groups = [vec![" It is 4.", " 4", " 5"], vec!["none", "7", "7"]];
        close(answers(&groups).unwrap().value, 1.5);
        assert_eq!(answers(&[vec!["none"]]), None);
    }
}
