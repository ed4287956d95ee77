//! Short product reviews from a random grammar of some hundred words. Each reply draws how kind and
//! how careful its writer is, so that replies to one prompt differ much in true reward.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;

use super::world::{World, pick};
use crate::artifact::true_reward::{ReviewReward, TrueReward};

const PRODUCTS: [&str; 16] = [
    "kettle", "lamp", "radio", "chair", "phone", "camera", "backpack", "blender", "clock", "desk",
    "heater", "jacket", "knife", "mirror", "pillow", "toaster",
];
const ATTRIBUTES: [&str; 6] = ["quality", "price", "design", "size", "delivery", "manual"];
const POSITIVE: [&str; 8] =
    ["great", "good", "lovely", "superb", "excellent", "solid", "handy", "clever"];
const NEGATIVE: [&str; 8] =
    ["poor", "bad", "awful", "weak", "terrible", "flimsy", "dull", "useless"];
const NEUTRAL: [&str; 4] = ["plain", "average", "ordinary", "usual"];
const FILLERS: [&str; 8] = [
    " It came on a Monday.",
    " My sister has one too.",
    " I bought it last week.",
    " There was a long box around it.",
    " I use it in the morning.",
    " We opened it after dinner with the whole family.",
    " The colour is blue.",
    " I had another one for many years before that.",
];

/// What decides the true reward of a review.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Settings {
    /// Reviews: weight of kind words.
    #[serde(default = "default_weight")]
    pub(super) w_sentiment: f64,
    /// Reviews: weight of naming the product and the attributes asked for.
    #[serde(default = "default_weight")]
    pub(super) w_topic: f64,
    /// Reviews: weight against replies that are too short or too long.
    #[serde(default = "default_w_length")]
    pub(super) w_length: f64,
    /// Reviews: the length that costs nothing, in words.
    #[serde(default = "default_target_words")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) target_words: u32,
}

fn default_weight() -> f64 {
    1.0
}
fn default_w_length() -> f64 {
    0.5
}
fn default_target_words() -> u32 {
    20
}

pub(super) fn world(settings: &Settings) -> World {
    let own = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let reward = ReviewReward {
        w_sentiment: settings.w_sentiment,
        w_topic: settings.w_topic,
        w_length: settings.w_length,
        target_words: settings.target_words,
        positive: own(&POSITIVE),
        negative: own(&NEGATIVE),
    };
    World::open(prompts(), Box::new(reply), TrueReward::Reviews(reward))
}

/// Every product with every one, two or three attributes, in every order.
fn prompts() -> Vec<String> {
    let mut asked: Vec<Vec<&str>> = Vec::new();
    for one in ATTRIBUTES {
        asked.push(vec![one]);
        for two in ATTRIBUTES.into_iter().filter(|two| *two != one) {
            asked.push(vec![one, two]);
            for three in ATTRIBUTES.into_iter().filter(|three| *three != one && *three != two) {
                asked.push(vec![one, two, three]);
            }
        }
    }
    let prompt =
        |product: &str, asked: &[&str]| format!("Review of the {product} ({}):", asked.join(", "));
    PRODUCTS
        .iter()
        .flat_map(|product| asked.iter().map(move |asked| prompt(product, asked)))
        .collect()
}

fn reply(prompt: &str, draw: &mut ChaCha8Rng) -> String {
    let product = *PRODUCTS.iter().find(|product| prompt.contains(*product)).unwrap_or(&"thing");
    let (kindness, care) = (draw.random::<f64>(), draw.random::<f64>());
    let mut reply = String::new();
    if draw.random_bool(0.3 + 0.5 * care) {
        reply += &opening(product, kindness, draw);
    }
    for attribute in ATTRIBUTES {
        let chance = if prompt.contains(attribute) { 0.3 + 0.6 * care } else { 0.2 * (1.0 - care) };
        if draw.random_bool(chance) {
            reply += &about(attribute, kindness, draw);
        }
    }
    while draw.random_bool(0.5 - 0.4 * care) {
        reply += pick(draw, &FILLERS);
    }
    if reply.is_empty() {
        reply = format!(" It is {}.", adjective(kindness, draw));
    }
    reply
}

fn opening(product: &str, kindness: f64, draw: &mut ChaCha8Rng) -> String {
    let adjective = adjective(kindness, draw);
    match draw.random_range(0..3) {
        0 => format!(" This {product} is {adjective}."),
        1 => format!(" I find the {product} {adjective}."),
        _ => format!(" The {product} is {adjective} for me."),
    }
}

fn about(attribute: &str, kindness: f64, draw: &mut ChaCha8Rng) -> String {
    let verdict = adjective(kindness, draw);
    match draw.random_range(0..4) {
        0 => format!(" The {attribute} is {verdict}."),
        1 => format!(" I find the {attribute} {verdict}."),
        2 => format!(" Its {attribute} is really {verdict}."),
        _ => format!(" The {attribute} is {verdict} and {}.", adjective(kindness, draw)),
    }
}

fn adjective(kindness: f64, draw: &mut ChaCha8Rng) -> &'static str {
    let words: &[&str] = match draw.random::<f64>() {
        chance if chance < 0.1 => &NEUTRAL,
        _ if draw.random_bool(kindness) => &POSITIVE,
        _ => &NEGATIVE,
    };
    words[draw.random_range(0..words.len())]
}
