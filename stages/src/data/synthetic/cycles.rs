//! Four prompts with 25 replies of two letters each, of five kinds of which each beats two and loses to two. Demonstrations favour some
//! replies, by chance.

use std::collections::BTreeMap;

use super::{
    letters::{drawn, normal, prompts},
    world::World,
};
use crate::{
    artifact::true_reward::{
        TrueReward,
        games::{GamePreference, Replies},
    },
    nn::stream::Stream,
};

const PROMPTS: u8 = 4;
const LETTERS: u8 = 5;
/// By how much a reply is ahead of one of a kind that its own beats.
const ADVANTAGE: f64 = 1.2;
/// Of what a reply is worth beside its kind.
const DEVIATION: f64 = 0.3;

pub(super) fn world(stream: Stream) -> World {
    let mut draw = stream.generator();
    let places = usize::from(LETTERS);
    let letter = |at: usize| char::from(b'a' + u8::try_from(at).unwrap_or(0));
    let replies: Vec<String> = (0..places * places)
        .map(|at| String::from_iter([letter(at / places), letter(at % places)]))
        .collect();
    let prompts = prompts(PROMPTS);
    let mut games = BTreeMap::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let quality: Vec<f64> = replies.iter().map(|_| DEVIATION * normal(&mut draw)).collect();
        let kind = |at: usize| (at / places + at % places + number) % places;
        let ahead = |i: usize, j: usize| {
            let advantage = match (kind(i) + places - kind(j)) % places {
                0 => 0.0,
                1 | 2 => ADVANTAGE,
                _ => -ADVANTAGE,
            };
            advantage + quality[i] - quality[j]
        };
        games.insert(prompt.clone(), Replies::of(replies.clone(), ahead));
    }
    let habits = prompts.iter().map(|prompt| {
        let weights = replies.iter().map(|it| (it.clone(), normal(&mut draw).exp())).collect();
        (prompt.clone(), weights)
    });
    let reply = drawn(habits.collect());
    World::closed(prompts, reply, TrueReward::Games(GamePreference { games }))
}
