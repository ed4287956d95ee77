//! Eight prompts with nine replies each: three styles, of which each beats another, in three grades (after Zhang et al. 2025, "Iterative
//! Nash Policy Optimization"). Demonstrations have one style mostly, and the worst grade most often.

use std::collections::BTreeMap;

use rand::Rng;

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

const PROMPTS: u8 = 8;
/// Styles, and grades of each.
const STYLES: usize = 3;
const GRADES: usize = 3;
/// By how much a style is ahead of that which it beats.
const ADVANTAGE: f64 = 2.0;
/// What a grade is worth, and by how much replies of one deviate.
const GRADE: f64 = 0.7;
const DEVIATION: f64 = 0.2;
/// How often demonstrations have their prompt's own style.
const OWN: f64 = 0.8;
const OF_GRADES: [f64; GRADES] = [1.5, 1.0, 0.5];

pub(super) fn world(stream: Stream, circular: bool) -> World {
    let mut draw = stream.generator();
    let replies: Vec<String> = ('a'..='i').map(String::from).collect();
    let prompts = prompts(PROMPTS);
    let (mut games, mut habits) = (BTreeMap::new(), BTreeMap::new());
    for prompt in &prompts {
        let worth: Vec<f64> = (0..replies.len())
            .map(|at| GRADE * (at % GRADES) as f64 + DEVIATION * normal(&mut draw))
            .collect();
        let ahead = |i: usize, j: usize| {
            let advantage = match (i / GRADES + STYLES - j / GRADES) % STYLES {
                1 if circular => ADVANTAGE,
                2 if circular => -ADVANTAGE,
                _ => 0.0,
            };
            advantage + worth[i] - worth[j]
        };
        games.insert(prompt.clone(), Replies::of(replies.clone(), ahead));
        let own = draw.random_range(0..STYLES);
        let weight = |(at, reply): (usize, &String)| {
            let style = if at / GRADES == own { OWN } else { (1.0 - OWN) / (STYLES - 1) as f64 };
            (reply.clone(), style * OF_GRADES[at % GRADES])
        };
        habits.insert(prompt.clone(), replies.iter().enumerate().map(weight).collect());
    }
    World::closed(prompts, drawn(habits), TrueReward::Games(GamePreference { games }))
}
