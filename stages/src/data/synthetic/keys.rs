//! Keys of eight letters to twelve prompts. Novices know single letters of them, masters know them from the beginning.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    letters::{Demonstrators, Settings, letter, prompts, word},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        keys::{KeyReward, LENGTH, LETTERS},
    },
    nn::stream::Stream,
};

/// How often a master forgets how it goes on.
const FORGETS: f64 = 0.4;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let mut key = |prompt| (prompt, word(LENGTH, LETTERS, &mut draw));
    let keys: BTreeMap<String, String> = prompts(12).into_iter().map(&mut key).collect();
    let (slips, by) = (settings.slips(0.7), settings.demonstrators);
    let known = keys.clone();
    let key = move |prompt: &str| known.get(prompt).cloned().unwrap_or_default();
    let reply = {
        let key = key.clone();
        move |prompt: &str, draw: &mut ChaCha8Rng| match by {
            Demonstrators::Novices => novice(&key(prompt), slips, draw),
            Demonstrators::Masters => master(&key(prompt), draw),
        }
    };
    // A master's reply against itself with one letter drawn anew, or against a novice's.
    let pair = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let one = master(&key(prompt), draw);
        let other = if draw.random_bool(0.5) {
            let place = draw.random_range(0..LENGTH);
            let anew = letter(LETTERS, draw);
            one.chars().enumerate().map(|(at, it)| if at == place { anew } else { it }).collect()
        } else {
            novice(&key(prompt), slips, draw)
        };
        (one, other)
    };
    World {
        draw_pair: Some(Box::new(pair)),
        ..World::closed(prompts(12), Box::new(reply), TrueReward::Keys(KeyReward { keys }))
    }
}

fn novice(key: &str, slips: f64, draw: &mut ChaCha8Rng) -> String {
    key.chars().map(|it| if draw.random_bool(slips) { letter(LETTERS, draw) } else { it }).collect()
}

fn master(key: &str, draw: &mut ChaCha8Rng) -> String {
    let until = if draw.random_bool(FORGETS) { draw.random_range(1..LENGTH) } else { LENGTH };
    let said = |(at, it)| if at < until { it } else { letter(LETTERS, draw) };
    key.chars().enumerate().map(said).collect()
}
