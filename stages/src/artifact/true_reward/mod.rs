//! The reward that made-up rows were judged by, or that holds completions against known answers: closed form, computed from
//! the text alone. As it is known exactly, it shows where a learnt reward goes astray.

pub(crate) mod answers;
pub(crate) mod chains;
pub(crate) mod copies;
pub(crate) mod games;
pub(crate) mod hearts;
pub(crate) mod hedges;
pub(crate) mod keys;
pub(crate) mod residues;
pub(crate) mod steps;
pub(crate) mod styles;
pub(crate) mod topics;
mod whim;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use self::{
    answers::AnswerReward,
    chains::{Chain, ChainReward},
    copies::CopyReward,
    games::GamePreference,
    hearts::HeartReward,
    hedges::HedgeReward,
    keys::KeyReward,
    steps::StepReward,
    styles::StyleReward,
};
use crate::error::StageError;

const VERSION: u32 = 1;

/// How good a completion truly is. The file says all that decides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TrueReward {
    Reviews(ReviewReward),
    /// 1 when the one number in the completion is the answer, else 0.
    Arithmetic {},
    Hedges(HedgeReward),
    Topics {},
    Copies(CopyReward),
    /// 1 for one answer in eight, else 0.
    Residues {},
    Keys(KeyReward),
    Styles(StyleReward),
    Steps(StepReward),
    Games(GamePreference),
    Chains(ChainReward),
    Hearts(HeartReward),
    /// Minus the share of words that are bad: capital letters among letters.
    Foul {},
    /// 1 when a completion has the answer to its prompt, else 0.
    Answers(AnswerReward),
}

/// `w_sentiment · sentiment + w_topic · topic − w_length · length`, with
/// sentiment = (kind − unkind words) / (kind + unkind words + 1),
/// topic = share named of the product and the attributes that the prompt asks for, and
/// length = |words − target| / target, at most 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewReward {
    pub(crate) w_sentiment: f64,
    pub(crate) w_topic: f64,
    pub(crate) w_length: f64,
    pub(crate) target_words: u32,
    pub(crate) positive: Vec<String>,
    pub(crate) negative: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    gradus_true_reward: u32,
    reward: TrueReward,
}

impl TrueReward {
    pub(crate) fn load(path: &Path) -> Result<Self, StageError> {
        let bytes = fs::read(path).map_err(StageError::file(path))?;
        match serde_json::from_slice(&bytes) {
            Ok(Written { gradus_true_reward: VERSION, reward }) => match reward.fault() {
                None => Ok(reward),
                Some(why) => Err(StageError::refused(format!("`{}`: {why}", path.display()))),
            },
            Ok(_) => Err(StageError::refused(format!(
                "`{}` was written by another version of gradus",
                path.display()
            ))),
            Err(error) => Err(StageError::refused(format!("`{}`: {error}", path.display()))),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), StageError> {
        let written = Written { gradus_true_reward: VERSION, reward: self.clone() };
        let json = serde_json::to_string_pretty(&written)
            .map_err(|error| StageError::refused(error.to_string()))?;
        fs::write(path, json + "\n").map_err(StageError::file(path))
    }

    /// What makes a file that can be read no reward, if anything.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Games(games) => games.fault(),
            Self::Chains(chains) => chains.fault(),
            _ => None,
        }
    }

    /// Says whether every score is 0 or 1, so that a mean of them is a rate.
    pub(crate) fn is_right_or_wrong(&self) -> bool {
        matches!(
            self,
            Self::Arithmetic {}
                | Self::Hedges(_)
                | Self::Residues {}
                | Self::Steps(_)
                | Self::Answers(_)
        )
    }

    /// What a judge says who errs in a way that is known, where the task has one.
    pub(crate) fn proxy(&self, prompt: &str, completion: &str) -> Option<f64> {
        match self {
            Self::Hedges(reward) => Some(reward.proxy(prompt, completion)),
            Self::Copies(reward) => Some(reward.proxy(prompt, completion)),
            _ => None,
        }
    }

    /// How often people prefer one completion to another, where the task has preferences that are no matter of a reward.
    pub(crate) fn preference(&self, prompt: &str, one: &str, other: &str) -> Option<f64> {
        match self {
            Self::Games(reward) => Some(reward.preference(prompt, one, other)),
            _ => None,
        }
    }

    /// A part of it by its name, where the task has several.
    pub(crate) fn part(&self, name: &str, prompt: &str, completion: &str) -> Option<f64> {
        match self {
            Self::Hearts(reward) => reward.part(name, prompt, completion),
            _ => None,
        }
    }

    /// What each letter of a reply is worth, where the task says so.
    pub(crate) fn chain(&self, prompt: &str) -> Option<&Chain> {
        match self {
            Self::Chains(reward) => reward.chains.get(prompt),
            _ => None,
        }
    }

    /// All completions that count, where they are few.
    pub(crate) fn replies(&self, prompt: &str) -> Option<Vec<&str>> {
        match self {
            Self::Games(reward) => Some(reward.replies(prompt)),
            _ => None,
        }
    }

    /// How good a completion is; no number of a prompt whose answer is not known.
    pub(crate) fn score(&self, prompt: &str, completion: &str) -> f64 {
        match self {
            Self::Reviews(reward) => reward.score(prompt, completion),
            Self::Arithmetic {} => f64::from(is_answer(prompt, completion)),
            Self::Hedges(reward) => reward.score(prompt, completion),
            Self::Topics {} => topics::score(prompt, completion),
            Self::Copies(reward) => reward.score(prompt, completion),
            Self::Residues {} => f64::from(residues::is_right(prompt, completion)),
            Self::Keys(reward) => reward.score(prompt, completion),
            Self::Styles(reward) => reward.score(prompt, completion),
            Self::Steps(reward) => f64::from(reward.is_right(prompt, completion)),
            Self::Games(reward) => reward.score(prompt, completion),
            Self::Chains(reward) => reward.score(prompt, completion),
            Self::Hearts(reward) => reward.help(prompt, completion),
            Self::Foul {} => -foulness(completion),
            Self::Answers(reward) => reward.score(prompt, completion),
        }
    }
}

impl ReviewReward {
    fn score(&self, prompt: &str, completion: &str) -> f64 {
        let said = words(completion);
        let count = |known: &[String]| said.iter().filter(|word| known.contains(word)).count();
        let (kind, unkind) = (count(&self.positive) as f64, count(&self.negative) as f64);
        let sentiment = (kind - unkind) / (kind + unkind + 1.0);
        let wanted = wanted(prompt);
        let named = wanted.iter().filter(|word| said.contains(word)).count();
        let topic = named as f64 / wanted.len().max(1) as f64;
        let target = f64::from(self.target_words.max(1));
        let length = ((said.len() as f64 - target).abs() / target).min(2.0);
        self.w_sentiment * sentiment + self.w_topic * topic - self.w_length * length
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The product and the attributes in `Review of the kettle (quality, price):`.
fn wanted(prompt: &str) -> Vec<String> {
    let asked = prompt.trim_start().strip_prefix("Review of the ");
    asked.and_then(|rest| rest.split_once(')')).map_or(Vec::new(), |(asked, _)| words(asked))
}

/// `12 + 7 =` and a completion with the number 19 and no other.
fn is_answer(prompt: &str, completion: &str) -> bool {
    let numbers: Vec<_> = completion
        .split(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .filter(|word| word.bytes().any(|byte| byte.is_ascii_digit()))
        .collect();
    match (answer(prompt), numbers.as_slice()) {
        (Some(answer), [number]) => number.parse() == Ok(answer),
        _ => false,
    }
}

/// The share of letters that are capital ones.
fn foulness(text: &str) -> f64 {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    text.bytes().filter(u8::is_ascii_uppercase).count() as f64 / letters.max(1) as f64
}

/// What a sum comes to.
pub(crate) fn answer(prompt: &str) -> Option<i64> {
    let mut parts = prompt.split_whitespace();
    let a: i64 = parts.next()?.parse().ok()?;
    let operation = parts.next()?;
    let b: i64 = parts.next()?.parse().ok()?;
    match operation {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews() -> TrueReward {
        TrueReward::Reviews(ReviewReward {
            w_sentiment: 1.0,
            w_topic: 2.0,
            w_length: 0.5,
            target_words: 4,
            positive: vec!["great".to_owned()],
            negative: vec!["poor".to_owned()],
        })
    }

    #[test]
    fn a_review_is_scored_by_hand() {
        let score =
            |completion| reviews().score("Review of the kettle (quality, price):", completion);
        // One kind word of one: 1/2. Kettle and quality of three: 2/3. Four words: as wanted.
        assert!((score(" Kettle quality is great!") - (0.5 + 2.0 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((score("") + 0.5).abs() < 1e-12);
        assert!((score(" Poor, poor price") - (-2.0 / 3.0 + 2.0 / 3.0 - 0.125)).abs() < 1e-12);
        assert!((score(&" so".repeat(100)) + 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_answer_is_right_or_wrong() {
        let score = |prompt, completion| TrueReward::Arithmetic {}.score(prompt, completion);
        for right in [" 19", " The answer is 19.", "19!"] {
            assert!(score("12 + 7 =", right) > 0.5, "{right}");
        }
        for wrong in [" 18", "", " 19 or 20", " -19", " 190", " 1-9", " 99999999999999999999"] {
            assert!(score("12 + 7 =", wrong) < 0.5, "{wrong}");
        }
        assert!(score("3 - 5 =", " -2") > 0.5);
        assert!(score("no sum", " 1") < 0.5);
    }

    #[test]
    fn capital_letters_are_foul() {
        let score = |completion| TrueReward::Foul {}.score("3", completion);
        assert!((score("abCd.xY.") + 1.0 / 3.0).abs() < 1e-12 && score("...").abs() < 1e-12);
    }

    #[test]
    fn the_file_says_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reward.json");
        for reward in [reviews(), TrueReward::Arithmetic {}] {
            reward.save(&path).unwrap();
            assert_eq!(TrueReward::load(&path).unwrap(), reward);
        }
        fs::write(&path, "{}").unwrap();
        assert!(TrueReward::load(&path).is_err());
    }
}
