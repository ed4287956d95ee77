//! `data.score`: texts cut into segments, each with what it is worth, before anything is learnt from them (Korbak et al. 2023,
//! "Pretraining Language Models with Human Preferences").

use gradus_protocol::catalog::Rule;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{
        self,
        dataset::{Fields, Format, Row, TextRow},
        dataset_folder::{Reader, write_all},
        digest::digest,
        true_reward::TrueReward,
    },
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained, scores::scores, statistics::mean},
    port::{Out, file_of, ports},
    prepare::segments::{COLUMN, Segment, column},
    rules::{param, rule},
    stage::{Given, Stage},
    verifier::compiled,
};

/// Score segments of texts.
pub(crate) struct Score;

/// What a segment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Cut {
    /// Up to `.`, `!` or `?` before a space or the end; the space is the next one's.
    #[default]
    Sentence,
    /// Up to the end of a line.
    Line,
    /// The whole text.
    Document,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What a segment is.
    #[serde(default)]
    segment: Cut,
    /// In place of `segment`: a regular expression of what ends one.
    #[serde(default)]
    ends: Option<String>,
    /// A regular expression of what is not wanted: a segment's reward is minus the share of its words that match. Left out, one of the
    /// inputs judges.
    #[serde(default)]
    unwanted: Option<String>,
    /// Of `unwanted`: a regular expression of what a word is.
    #[serde(default = "word")]
    word: String,
    /// A regular expression of what texts begin with that is no segment and is not judged, a title say.
    #[serde(default)]
    lead: Option<String>,
}

fn word() -> String {
    r"\w+".to_owned()
}

ports!(Inputs {
    /// The texts.
    text: artifact::Text,
    /// Judges segments, each as a text of its own.
    reward_model: Option<artifact::RewardModel>,
    /// Judges segments, with the lead as their prompt.
    true_reward: Option<artifact::TrueReward>,
});
ports!(Outputs {
    /// The same texts with the column `segments`.
    text: Out<artifact::Text>,
});

impl Stage for Score {
    const KIND: &'static str = "data.score";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const LOOKS: bool = true;
    const DOC: &'static str = "Cut texts into segments and say what each is worth.

`data.annotate` puts control tokens before them, `data.filter` leaves texts out, and `train.pretrain` weighs them: all read the column \
`segments`. Higher is better. A text is not changed.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let (rule_of, model, truth) = ("unwanted", "inputs.reward_model", "inputs.true_reward");
        let mut rules = vec![rule(
            "nobody judges: say what is `unwanted`, or give a `reward_model` or a `true_reward`",
            [param(rule_of).missing(), param(model).missing(), param(truth).missing()],
        )];
        for two in [[rule_of, model], [rule_of, truth], [model, truth]] {
            rules.push(rule(
                "several judge: leave one of `unwanted`, `reward_model` and `true_reward`",
                two.map(|it| param(it).given()),
            ));
        }
        rules
    }

    fn look(params: &Params, _inputs: &Given) -> Result<(), StageError> {
        params.patterns().map(drop)
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let patterns = params.patterns()?;
        let mut rows: Vec<Row> = Vec::new();
        let mut all: Vec<Parts> = Vec::new();
        for row in Reader::open_some("text", &inputs.text.source)? {
            context.heard()?;
            let row = row?;
            let text = format!("{}{}", row.prompt(), row.completion().unwrap_or_default());
            all.push(Parts::of(&patterns, &text));
            rows.push(Row { fields: Fields::Text(TextRow { text }), extra: row.extra });
        }
        let judged: Vec<(usize, usize)> = all
            .iter()
            .enumerate()
            .flat_map(|(row, own)| (own.lead..own.segments.len()).map(move |at| (row, at)))
            .collect();
        let text = |(row, at): &(usize, usize)| all[*row].segments[*at].text.as_str();
        let rewards: Vec<f64> = if let Some(unwanted) = &patterns.unwanted {
            judged.iter().map(|it| -share(text(it), &patterns.word, unwanted)).collect()
        } else if let Some(model) = &inputs.reward_model {
            let texts: Vec<&str> = judged.iter().map(text).collect();
            by_model(model, &texts, context)?
        } else if let Some(truth) = &inputs.true_reward {
            let truth = TrueReward::load(file_of(&truth.source)?)?;
            judged.iter().map(|it| truth.score(all[it.0].lead(), text(it))).collect()
        } else {
            return Err(StageError::refused(
                "nobody judges: say what is `unwanted`, or give a `reward_model` or a `true_reward`",
            ));
        };
        for ((row, at), reward) in judged.iter().zip(&rewards) {
            all[*row].segments[*at].reward = Some(*reward);
        }
        context.summary("rows", rows.len() as f64);
        context.summary("segments", rewards.len() as f64);
        context.summary("reward", mean(&rewards));
        let best = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let below = rewards.iter().filter(|it| **it < best).count();
        context.summary("below_best", below as f64 / rewards.len().max(1) as f64);
        for (row, parts) in rows.iter_mut().zip(&all) {
            row.extra.insert(COLUMN.to_owned(), column(&parts.segments));
        }
        write_all(&outputs.text.path, Format::Text, &rows)
    }
}

struct Patterns {
    unwanted: Option<Regex>,
    word: Regex,
    lead: Option<Regex>,
    /// What ends a segment; without it a text is one.
    ends: Option<Regex>,
    /// Whether a space or the end must follow.
    spaced: bool,
}

impl Params {
    fn patterns(&self) -> Result<Patterns, StageError> {
        let read = |name: &str, text: &str| {
            compiled(text).map_err(|why| StageError::refused(format!("`{name}`: {why}")))
        };
        let ends = match (&self.ends, self.segment) {
            (Some(ends), _) => Some(ends.as_str()),
            (None, Cut::Sentence) => Some("[.!?]+"),
            (None, Cut::Line) => Some("\n"),
            (None, Cut::Document) => None,
        };
        Ok(Patterns {
            ends: ends.map(|it| read("ends", it)).transpose()?,
            spaced: self.ends.is_none() && self.segment == Cut::Sentence,
            unwanted: self.unwanted.as_deref().map(|it| read("unwanted", it)).transpose()?,
            word: read("word", &self.word)?,
            lead: self.lead.as_deref().map(|it| read("lead", it)).transpose()?,
        })
    }
}

/// The segments of a text, which they are all of.
struct Parts {
    segments: Vec<Segment>,
    /// How many at the beginning are not judged: one or none.
    lead: usize,
}

impl Parts {
    fn of(patterns: &Patterns, text: &str) -> Self {
        let found = patterns.lead.as_ref().and_then(|it| it.find(text));
        let found = found.filter(|it| it.start() == 0);
        let (head, rest) = text.split_at(found.map_or(0, |it| it.end()));
        let segment = |text: &str| Segment { text: text.to_owned(), reward: None };
        let head = (!head.is_empty()).then_some(head);
        let lead = usize::from(head.is_some());
        let parts = patterns.cut(rest);
        Self { segments: head.into_iter().chain(parts).map(segment).collect(), lead }
    }

    fn lead(&self) -> &str {
        self.segments[..self.lead].first().map_or("", |it| it.text.as_str())
    }
}

impl Patterns {
    /// Parts of a text, each up to what ends it. What is left over is a part, too, unless it is nothing but space.
    fn cut<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let (mut parts, mut start) = (Vec::new(), 0);
        for end in self.ends.iter().flat_map(|it| it.find_iter(text)).map(|it| it.end()) {
            let next = text[end..].chars().next();
            if end > start && (!self.spaced || next.is_none_or(char::is_whitespace)) {
                parts.push(start..end);
                start = end;
            }
        }
        match parts.last_mut() {
            Some(last) if text[start..].trim().is_empty() => last.end = text.len(),
            _ => parts.push(start..text.len()),
        }
        parts.into_iter().map(|it| &text[it]).filter(|it| !it.is_empty()).collect()
    }
}

/// The share of words that are not wanted.
fn share(text: &str, word: &Regex, unwanted: &Regex) -> f64 {
    let words = word.find_iter(text);
    let (all, bad) = words.fold((0, 0), |(all, bad), it| {
        (all + 1, bad + usize::from(unwanted.is_match(it.as_str())))
    });
    bad as f64 / f64::from(all.max(1))
}

fn by_model(
    model: &artifact::RewardModel,
    texts: &[&str],
    context: &mut Context,
) -> Result<Vec<f64>, StageError> {
    let judge = Pretrained::open("reward_model", &model.source, Head::Score, context.device)?;
    let ids: Vec<Vec<u32>> =
        texts.iter().map(|it| judge.codec.encode(it)).collect::<Result<_, _>>()?;
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    judge.bears(ids.iter().map(|it| it.len()).max().unwrap_or(0), "the segments")?;
    let page = context.page("score", 2, &Some(digest(&model.source)?));
    let report = |done, all| context.rows(done, all, "segments scored");
    scores(&judge.model, &ids, Some(&page), report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(given: serde_json::Value, text: &str) -> Vec<String> {
        let params: Params = serde_json::from_value(given).unwrap();
        let parts = Parts::of(&params.patterns().unwrap(), text);
        parts.segments.into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn a_text_is_cut_and_nothing_of_it_is_lost() {
        let text = "3 Really?! Yes, 1.5. No";
        let plain = serde_json::json!({});
        assert_eq!(texts(plain.clone(), text), ["3 Really?!", " Yes, 1.5.", " No"]);
        assert_eq!(texts(plain.clone(), "One. Two. \n"), ["One.", " Two. \n"]);
        assert_eq!(texts(plain, ""), [""; 0]);
        let led = serde_json::json!({ "lead": r"^\d " });
        assert_eq!(texts(led, text), ["3 ", "Really?!", " Yes, 1.5.", " No"]);
        assert_eq!(texts(serde_json::json!({ "segment": "line" }), "a\nb\n"), ["a\n", "b\n"]);
        assert_eq!(texts(serde_json::json!({ "segment": "document" }), "a. b."), ["a. b."]);
        assert_eq!(
            texts(serde_json::json!({ "lead": "b", "ends": "[.]" }), "ab.c."),
            ["ab.", "c."]
        );
    }

    #[test]
    fn a_reward_is_minus_the_share_of_unwanted_words() {
        let of = |text: &str, word: &str, unwanted: &str| {
            share(text, &Regex::new(word).unwrap(), &Regex::new(unwanted).unwrap())
        };
        assert!((of("A bad, bad day.", r"\w+", "^bad$") - 0.5).abs() < 1e-12);
        assert!((of("abCd.", "[a-zA-H]", "[A-H]") - 0.25).abs() < 1e-12);
        assert!(of("...", r"\w+", "bad").abs() < 1e-12);
    }
}
