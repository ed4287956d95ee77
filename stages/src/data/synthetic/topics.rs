//! Letters about one of six topics, five to ten of them, of which some belong to it. People hardly ever repeat themselves.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::world::World;
use crate::artifact::true_reward::{
    TrueReward,
    topics::{RELEVANT, SYMBOLS, relevant},
};

const TOPICS: u8 = 6;

pub(super) fn world() -> World {
    let prompts = (0..TOPICS).map(|topic| char::from(b'A' + topic).to_string()).collect();
    World::closed(prompts, Box::new(reply), TrueReward::Topics {})
}

fn reply(prompt: &str, draw: &mut ChaCha8Rng) -> String {
    let relevant = relevant(prompt);
    let mut said = String::new();
    for _ in 0..draw.random_range(5..=10) {
        let mut next = symbol(relevant, draw);
        while said.ends_with(next) && draw.random_bool(0.95) {
            next = symbol(relevant, draw);
        }
        said.push(next);
    }
    said
}

fn symbol(relevant: [u8; RELEVANT as usize], draw: &mut ChaCha8Rng) -> char {
    char::from(if draw.random_bool(0.3) {
        relevant[draw.random_range(0..relevant.len())]
    } else {
        b'a' + draw.random_range(0..SYMBOLS)
    })
}
