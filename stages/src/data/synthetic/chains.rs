//! One prompt, answered by five letters of four: what a letter is worth hangs on its place and the one before, and so does how
//! often who demonstrates says it.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{normal, prompts},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        chains::{Chain, ChainReward, LETTERS},
    },
    nn::stream::Stream,
};

const PROMPTS: u8 = 1;
const LENGTH: usize = 5;
/// The deviation of log-odds among what is demonstrated.
const TASTE: f64 = 0.7;

/// A number for every letter at every place behind every other.
fn chain(deviation: f64, draw: &mut ChaCha8Rng) -> Chain {
    let mut row = || [(); LETTERS].map(|()| deviation * normal(draw));
    let mut rows = |count: usize| (0..count).map(|_| row()).collect();
    Chain((0..LENGTH).map(|place| rows(if place == 0 { 1 } else { LETTERS })).collect())
}

pub(super) fn world(stream: Stream) -> World {
    let mut draw = stream.generator();
    let prompts = prompts(PROMPTS);
    let mut all = |deviation: f64| -> BTreeMap<String, Chain> {
        prompts.iter().map(|prompt| (prompt.clone(), chain(deviation, &mut draw))).collect()
    };
    let (chains, tastes) = (all(1.0), all(TASTE));
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let Some(taste) = tastes.get(prompt) else { return String::new() };
        let (mut said, mut before) = (String::new(), None);
        for place in 0..taste.length() {
            let odds = [0, 1, 2, 3].map(|letter| taste.worth(place, before, letter).exp());
            let mut left = draw.random::<f64>() * odds.iter().sum::<f64>();
            let reached = odds.iter().position(|it| {
                left -= it;
                left <= 0.0
            });
            let letter = reached.unwrap_or(LETTERS - 1);
            said.push(['a', 'b', 'c', 'd'][letter]);
            before = Some(letter);
        }
        said
    };
    World::closed(prompts, Box::new(reply), TrueReward::Chains(ChainReward { chains }))
}
