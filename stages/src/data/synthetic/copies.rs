//! 512 prompts of three letters and answers of six, which translate them. Who demonstrates slips more often than not.

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Settings, letter},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        copies::{CopyReward, LETTERS},
    },
    nn::stream::Stream,
};

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let alphabet: Vec<char> = (b'a'..b'a' + LETTERS).map(char::from).collect();
    let translations = std::array::from_fn(|_| {
        let mut letters = alphabet.clone();
        letters.shuffle(&mut draw);
        letters.into_iter().collect()
    });
    let weights = std::array::from_fn(|_| draw.random_range(0.5..1.5));
    let reward = CopyReward { translations, weights, shift: settings.shift, seed: draw.random() };
    let longer = |prompts: &[String], letter: &char| -> Vec<String> {
        prompts.iter().map(|prompt| format!("{prompt}{letter}")).collect()
    };
    let prompts = (0..3).fold(vec![String::new()], |prompts, _| {
        alphabet.iter().flat_map(|it| longer(&prompts, it)).collect()
    });
    let (known, slips) = (reward.clone(), settings.slips(0.6));
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let said = |right| if draw.random_bool(slips) { letter(LETTERS, draw) } else { right };
        known.target(prompt).chars().map(said).collect()
    };
    World::closed(prompts, Box::new(reply), TrueReward::Copies(reward))
}
