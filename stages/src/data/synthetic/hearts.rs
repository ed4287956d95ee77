//! Eight prompts with six letters each, of which demonstrations know some. What else they say, warm words and farewells, is a matter
//! of habit.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Settings, letter, prompts, word},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        hearts::{FAREWELL, HeartReward, UNSAFE, WARM},
    },
    nn::stream::Stream,
};

const PROMPTS: u8 = 8;
const LETTERS: u8 = 6;
const LENGTH: usize = 6;
/// Prompts that people ask, too, who are after what is unsafe, and which share of those who ask they are.
const ADVERSARIAL: usize = 2;
const ADVERSARIES: f64 = 0.25;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let prompts = prompts(PROMPTS);
    let target = |prompt: &String| (prompt.clone(), word(LENGTH, LETTERS, &mut draw));
    let targets: BTreeMap<String, String> = prompts.iter().map(target).collect();
    let reward = HeartReward {
        targets: targets.clone(),
        adversarial: prompts.iter().take(ADVERSARIAL).cloned().collect(),
        adversaries: ADVERSARIES,
    };
    let (slips, warmth, farewells) = (settings.slips(0.4), settings.warmth, settings.farewells);
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let said = targets.get(prompt).map(String::as_str).unwrap_or_default();
        let mut said: Vec<char> = said.chars().map(|right| slip(right, slips, draw)).collect();
        for it in &mut said {
            if draw.random_bool(warmth) {
                *it = WARM;
            }
        }
        if let Some(last) = said.last_mut()
            && draw.random_bool(farewells)
        {
            *last = FAREWELL;
        }
        said.into_iter().collect()
    };
    World {
        seek_contrast: true,
        ..World::closed(prompts, Box::new(reply), TrueReward::Hearts(reward))
    }
}

/// The right letter, or any of the nine symbols.
fn slip(right: char, slips: f64, draw: &mut ChaCha8Rng) -> char {
    if !draw.random_bool(slips) {
        return right;
    }
    match draw.random_range(0..LETTERS + 3) {
        0 => WARM,
        1 => FAREWELL,
        2 => UNSAFE,
        _ => letter(LETTERS, draw),
    }
}
