//! Small sums. A wrong reply is wrong as people are: by one, by ten, or by the wrong sign.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;

use super::world::World;
use crate::artifact::true_reward::{TrueReward, answer};

const SIGNS: [&str; 3] = ["+", "-", "*"];

/// How hard the sums are.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Settings {
    /// Arithmetic: the largest number in a sum. More make the task harder.
    #[serde(default = "default_largest")]
    #[schemars(range(min = 9, max = 999))]
    pub(super) largest: u32,
    /// Arithmetic: share of the replies that are wrong.
    #[serde(default = "default_mistakes")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) mistakes: f64,
}

fn default_largest() -> u32 {
    20
}
fn default_mistakes() -> f64 {
    0.4
}

pub(super) fn world(settings: &Settings) -> World {
    let (largest, mistakes) = (settings.largest, settings.mistakes.clamp(0.0, 1.0));
    let mut prompts = Vec::new();
    for sign in SIGNS {
        for a in 0..=largest {
            for b in 0..=largest {
                prompts.push(format!("{a} {sign} {b} ="));
            }
        }
    }
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| reply(prompt, mistakes, draw);
    World {
        seek_contrast: true,
        columns: |prompt| {
            answer(prompt).map(|it| ("answer".to_owned(), it.into())).into_iter().collect()
        },
        ..World::open(prompts, Box::new(reply), TrueReward::Arithmetic {})
    }
}

fn reply(prompt: &str, mistakes: f64, draw: &mut ChaCha8Rng) -> String {
    let mut parts = prompt.split(' ');
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
    let (a, sign, b) = (number().unwrap_or(0), prompt.split(' ').nth(1), {
        number();
        number().unwrap_or(0)
    });
    let (sum, difference) = (a + b, a - b);
    let right = match sign {
        Some("+") => sum,
        Some("-") => difference,
        _ => a * b,
    };
    let said = if draw.random_bool(mistakes) {
        let swapped = if right == sum { difference } else { sum };
        let slips = [right + 1, right - 1, right + 10, swapped];
        let slip = slips[draw.random_range(0..slips.len())];
        if slip == right { right + 2 } else { slip }
    } else {
        right
    };
    match draw.random_range(0..3) {
        0 => format!(" The answer is {said}."),
        1 => format!(" It is {said}."),
        _ => format!(" {said}"),
    }
}
