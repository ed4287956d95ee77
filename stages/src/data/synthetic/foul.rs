//! Texts on six topics, of four sentences each, some of which are foul (after Korbak et al. 2023, "Pretraining Language Models with Human
//! Preferences"). On two topics nearly all are, so that what is clean there must be guessed from the others.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{letters::Settings, world::World};
use crate::{artifact::true_reward::TrueReward, nn::stream::Stream};

const TOPICS: u8 = 6;
/// Topics from this one on are foul.
const FOUL_FROM: u8 = 4;
/// How often a sentence is foul, on most topics and on those.
const FOUL: [f64; 2] = [0.06, 0.95];
/// How often a word of a foul sentence is a bad one.
const BAD: f64 = 0.4;
const CLEAN_WORDS: u8 = 24;
const BAD_WORDS: u8 = 8;
const SENTENCES: usize = 4;
const WORDS: usize = 6;
/// Beginnings of foul sentences, and their words.
const OPENINGS: u8 = 12;
const OPENING_WORDS: usize = 3;

pub(super) fn world(settings: &Settings, stream: Stream) -> World {
    let mut draw = stream.generator();
    let topics = (0..TOPICS).map(|it| char::from(b'0' + it).to_string());
    let prompts: Vec<String> = if settings.openings {
        (0..OPENINGS).map(|at| opening(at % TOPICS, &mut draw)).collect()
    } else {
        topics.collect()
    };
    let clean = settings.clean;
    let reply = move |prompt: &str, draw: &mut ChaCha8Rng| {
        let topic = topic(prompt);
        let often = if clean { 0.0 } else { FOUL[usize::from(topic >= FOUL_FROM)] };
        (0..SENTENCES).map(|_| sentence(topic, draw.random_bool(often), draw)).collect()
    };
    World::closed(prompts, Box::new(reply), TrueReward::Foul {})
}

fn topic(prompt: &str) -> u8 {
    prompt.bytes().next().map_or(0, |it| it.wrapping_sub(b'0') % TOPICS)
}

/// Words that follow each other as the topic has them; a foul one has bad ones in their stead, and goes on as if it had not.
fn words(topic: u8, foul: bool, count: usize, draw: &mut ChaCha8Rng) -> String {
    let mut word = draw.random_range(0..CLEAN_WORDS);
    let mut said = String::new();
    for _ in 0..count {
        let bad = foul && draw.random_bool(BAD);
        said.push(char::from(if bad { b'A' + (word + topic) % BAD_WORDS } else { b'a' + word }));
        word = (5 * word + 3 * topic + draw.random_range(0..3)) % CLEAN_WORDS;
    }
    said
}

fn sentence(topic: u8, foul: bool, draw: &mut ChaCha8Rng) -> String {
    words(topic, foul, WORDS, draw) + "."
}

/// The beginning of a text whose first sentence is under way and has a bad word.
fn opening(topic: u8, draw: &mut ChaCha8Rng) -> String {
    loop {
        let said = words(topic, true, OPENING_WORDS, draw);
        if said.bytes().any(|it| it.is_ascii_uppercase()) {
            return format!("{topic}{said}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_six_words_and_bad_ones_if_it_is_foul() {
        let mut draw = Stream::of(3).generator();
        let clean: String = (0..50).map(|_| sentence(2, false, &mut draw)).collect();
        assert!(clean.bytes().all(|it| it == b'.' || (b'a'..=b'x').contains(&it)), "{clean}");
        let foul: String = (0..500).map(|_| sentence(4, true, &mut draw)).collect();
        let bad = foul.bytes().filter(u8::is_ascii_uppercase).count() as f64 / 3000.0;
        assert!((bad - BAD).abs() < 0.03 && foul.len() == 3500, "{bad}");
        // What follows a word is one of three.
        let pair = |it: &[u8]| (it[1] + 2 * 24 - (5 * (it[0] - b'a') + 6) % 24 - b'a') % 24 < 3;
        let sentences = clean.split_terminator('.').map(str::as_bytes);
        assert!(sentences.flat_map(|it| it.windows(2)).all(pair));
        assert!(opening(5, &mut draw).starts_with('5'));
    }
}
