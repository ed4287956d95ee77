//! Three letters to each of twelve prompts. Who demonstrates has three habits for each, right or wrong, and often says anything.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Settings, prompts, word},
    world::{World, pick},
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        residues::{LENGTH, LETTERS},
    },
    nn::stream::Stream,
};

const HABITS: usize = 3;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let mut habits = || (0..HABITS).map(|_| word(LENGTH, LETTERS, &mut draw)).collect();
    let habits: std::collections::BTreeMap<String, Vec<String>> =
        prompts(12).into_iter().map(|prompt| (prompt, habits())).collect();
    let slips = settings.slips(0.6);
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| match habits.get(prompt) {
        Some(habits) if !draw.random_bool(slips) => pick(draw, habits).to_owned(),
        _ => word(LENGTH, LETTERS, draw),
    };
    World {
        seek_contrast: true,
        ..World::closed(prompts(12), Box::new(reply), TrueReward::Residues {})
    }
}
