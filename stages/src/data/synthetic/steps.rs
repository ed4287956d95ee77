//! Ten prompts, each with four actions that decide, of which demonstrations know two well and two badly. All else is free.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{letter, prompts, word},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        steps::{CRITICAL, LENGTH, LETTERS, StepReward},
    },
    nn::stream::Stream,
};

const PROMPTS: u8 = 10;
/// How often a demonstration knows each of the actions that decide.
const KNOWN: [f64; CRITICAL.len()] = [0.75, 0.35, 0.75, 0.35];

pub(super) fn world(stream: Stream) -> World {
    let mut draw = stream.generator();
    let keys: BTreeMap<String, [char; CRITICAL.len()]> = prompts(PROMPTS)
        .into_iter()
        .map(|it| (it, CRITICAL.map(|_| letter(LETTERS, &mut draw))))
        .collect();
    let known = keys.clone();
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let mut said: Vec<char> = word(LENGTH, LETTERS, draw).chars().collect();
        let Some(key) = known.get(prompt) else { return String::new() };
        for ((at, right), often) in CRITICAL.iter().zip(key).zip(KNOWN) {
            if draw.random_bool(often) {
                said[*at] = *right;
            }
        }
        said.into_iter().collect()
    };
    let reward = TrueReward::Steps(StepReward { keys });
    World { seek_contrast: true, ..World::closed(prompts(PROMPTS), Box::new(reply), reward) }
}
