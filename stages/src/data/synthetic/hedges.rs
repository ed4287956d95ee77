//! Six letters to each of 32 prompts. Who demonstrates knows them and often slips, at times into a hedge.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Settings, letter, word},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        hedges::{HEDGE, HedgeReward},
    },
    nn::stream::Stream,
};

const LETTERS: u8 = 6;
const LENGTH: usize = 6;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let prompts: Vec<String> = ('A'..='Z').chain('0'..='5').map(String::from).collect();
    let target = |prompt: &String| (prompt.clone(), word(LENGTH, LETTERS, &mut draw));
    let targets: BTreeMap<String, String> = prompts.iter().map(target).collect();
    let reward = HedgeReward { targets: targets.clone(), seed: draw.random() };
    let slips = settings.slips(0.55);
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let said = targets.get(prompt).map(String::as_str).unwrap_or_default();
        said.chars().map(|right| slip(right, slips, draw)).collect()
    };
    World {
        seek_contrast: true,
        ..World::closed(prompts, Box::new(reply), TrueReward::Hedges(reward))
    }
}

fn slip(right: char, slips: f64, draw: &mut ChaCha8Rng) -> char {
    if !draw.random_bool(slips) {
        right
    } else if draw.random_range(0..=LETTERS) == LETTERS {
        HEDGE
    } else {
        letter(LETTERS, draw)
    }
}
