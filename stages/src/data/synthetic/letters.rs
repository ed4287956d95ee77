//! What worlds of single letters have in common.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::world::Reply;
use crate::artifact::true_reward::styles::Believed;

/// Who demonstrates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Demonstrators {
    /// They know a little.
    #[default]
    Novices,
    /// They know all, and in four cases of ten forget how it goes on.
    Masters,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Settings {
    /// Worlds of letters: the share of a demonstration's letters that are drawn at random, of residues that of whole answers. By
    /// default 0.4 of hearts, 0.55 of hedges, 0.6 of copies and residues, 0.7 of keys, 0.74 of styles.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) slips: Option<f64>,
    /// Copies: the deviation of what the proxy reward adds to all answers of a prompt.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub(super) shift: f64,
    /// Keys: who demonstrates.
    #[serde(default)]
    pub(super) demonstrators: Demonstrators,
    /// Grades: whether styles beat each other in a circle, or are worth the same.
    #[serde(default)]
    pub(super) transitive: bool,
    /// Hearts: how often a symbol of a demonstration is a warm word in place of what it was.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0), extend("neutral" = 0.0))]
    pub(super) warmth: f64,
    /// Hearts: how often a demonstration ends in a farewell.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0), extend("neutral" = 0.0))]
    pub(super) farewells: f64,
    /// Foul: whether no sentence is.
    #[serde(default)]
    #[schemars(extend("neutral" = false))]
    pub(super) clean: bool,
    /// Foul: whether prompts are beginnings of foul sentences, and not topics.
    #[serde(default)]
    #[schemars(extend("neutral" = false))]
    pub(super) openings: bool,
    /// Styles: which lengths are believed if they are right.
    #[serde(default)]
    pub(super) believed: Believed,
}

impl Settings {
    pub(super) fn slips(&self, by_default: f64) -> f64 {
        self.slips.unwrap_or(by_default).clamp(0.0, 1.0)
    }
}

/// One of the first so many letters.
pub(super) fn letter(of: u8, draw: &mut ChaCha8Rng) -> char {
    char::from(b'a' + draw.random_range(0..of))
}

pub(super) fn word(length: usize, of: u8, draw: &mut ChaCha8Rng) -> String {
    (0..length).map(|_| letter(of, draw)).collect()
}

/// Replies to prompts as often as their weights say.
pub(super) fn drawn(habits: BTreeMap<String, Vec<(String, f64)>>) -> Reply {
    Box::new(move |prompt: &str, draw: &mut ChaCha8Rng| {
        let Some(habits) = habits.get(prompt) else { return String::new() };
        let mut left = draw.random::<f64>() * habits.iter().map(|(_, weight)| weight).sum::<f64>();
        let reached = habits.iter().find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        reached.or(habits.last()).map_or(String::new(), |(reply, _)| reply.clone())
    })
}

/// A normal number: √(−2 ln u) cos 2πv (Box & Muller 1958).
pub(super) fn normal(draw: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - draw.random::<f64>(), draw.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// So many prompts, `A`, `B` and so on.
pub(super) fn prompts(count: u8) -> Vec<String> {
    (b'A'..b'A' + count).map(|it| char::from(it).to_string()).collect()
}
