//! Five letters of four, each worth what it is worth at its place behind the one before (after Rafailov et al. 2024, "From r to Q*"):
//! a reward of which every letter's part is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) const LETTERS: usize = 4;

/// What a reply is worth that is not of the form.
const WRONG: f64 = -10.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainReward {
    /// Prompt → its chain.
    pub(crate) chains: BTreeMap<String, Chain>,
}

/// What letters are worth: by place, by the letter before, by letter. At the first place there is one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain(pub(crate) Vec<Vec<[f64; LETTERS]>>);

impl Chain {
    /// Letters of a reply.
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    /// What a letter is worth at a place, behind `before` unless it is the first.
    pub(crate) fn worth(&self, place: usize, before: Option<usize>, letter: usize) -> f64 {
        self.0[place][before.unwrap_or(0)][letter]
    }

    /// The letters of a reply, if it is of the form.
    fn letters(&self, reply: &str) -> Option<Vec<usize>> {
        let place =
            |byte: u8| byte.checked_sub(b'a').map(usize::from).filter(|letter| *letter < LETTERS);
        let letters: Option<Vec<usize>> = reply.bytes().map(place).collect();
        letters.filter(|it| it.len() == self.length())
    }

    /// What makes it none, if anything.
    fn fault(&self) -> Option<String> {
        let rows = |(place, rows): (usize, &Vec<_>)| {
            let wanted = if place == 0 { 1 } else { LETTERS };
            (rows.len() != wanted)
                .then(|| format!("place {} has {} rows and not {wanted}", place + 1, rows.len()))
        };
        self.0.iter().enumerate().find_map(rows)
    }
}

impl ChainReward {
    pub(super) fn fault(&self) -> Option<String> {
        let fault = |(prompt, chain): (&String, &Chain)| {
            chain.fault().map(|why| format!("the chain of {prompt:?}: {why}"))
        };
        self.chains.iter().find_map(fault)
    }

    pub(super) fn score(&self, prompt: &str, completion: &str) -> f64 {
        let Some(chain) = self.chains.get(prompt) else { return WRONG };
        let Some(letters) = chain.letters(completion) else { return WRONG };
        let before = std::iter::once(None).chain(letters.iter().copied().map(Some));
        let each = letters.iter().zip(before).enumerate();
        each.map(|(place, (letter, before))| chain.worth(place, before, *letter)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_worth_what_they_are_behind_the_one_before() {
        let second =
            (0..LETTERS).map(|before| [0.0, 1.0, 2.0, 3.0].map(|it| it + 10.0 * before as f64));
        let chain = Chain(vec![vec![[1.0, 2.0, 3.0, 4.0]], second.collect()]);
        let reward = ChainReward { chains: [("A".to_owned(), chain)].into() };
        assert_eq!(reward.fault(), None);
        // b is worth 2; c behind it 2 + 10.
        assert!((reward.score("A", "bc") - 14.0).abs() < 1e-12);
        for wrong in ["b", "bca", "bz", "b!", "é", ""] {
            assert!((reward.score("A", wrong) - WRONG).abs() < 1e-12, "{wrong}");
        }
        assert!((reward.score("B", "bc") - WRONG).abs() < 1e-12);
        let short = ChainReward { chains: [("A".to_owned(), Chain(vec![vec![]]))].into() };
        assert_eq!(short.fault().unwrap(), "the chain of \"A\": place 1 has 0 rows and not 1");
    }
}
