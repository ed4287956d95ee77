//! Sixteen prompts, each with an answer of one letter that a third of the demonstrations know, behind any number of fillers.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Settings, letter, prompts},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        styles::{FILLER, MOST_FILLERS, StyleReward},
    },
    nn::stream::Stream,
};

/// Letters of answers.
const LETTERS: u8 = 10;
const PROMPTS: u8 = 16;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let answers: BTreeMap<String, char> =
        prompts(PROMPTS).into_iter().map(|it| (it, letter(LETTERS, &mut draw))).collect();
    let (slips, known) = (settings.slips(0.74), answers.clone());
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let fillers = draw.random_range(1..=MOST_FILLERS);
        let answer = match known.get(prompt) {
            Some(answer) if !draw.random_bool(slips) => *answer,
            _ => letter(LETTERS, draw),
        };
        FILLER.to_string().repeat(fillers) + &answer.to_string()
    };
    let reward = TrueReward::Styles(StyleReward { answers, believed: settings.believed });
    World { seek_contrast: true, ..World::closed(prompts(PROMPTS), Box::new(reply), reward) }
}
