//! Trajectories: what a policy did, a row each, with named columns. The artifact `rollouts`.
//!
//! On the disk they are a data set of completions, so whatever learns from completions learns from them as they are. What is
//! more than text stands in the column `rollout`, rewards by their names in `rewards`, and what they come to in
//! `reward`; all other columns are those of the prompt's row. `docs/data.md` describes them for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use gradus_protocol::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    artifact::{
        dataset::{CompletionRow, Fields, Format, Row},
        dataset_folder::{Reader, write_all},
        json::Object,
    },
    error::StageError,
};

const ROLLOUT: &str = "rollout";
const REWARDS: &str = "rewards";
const REWARD: &str = "reward";
const TURNS: &str = "turns";

/// Who wrote tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Author {
    Prompt,
    Policy,
    /// Others, from within whose answer the policy went on.
    Others,
    /// What a world answered.
    Environment,
}

/// Tokens of one author that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    pub(crate) author: Author,
    pub(crate) tokens: usize,
    /// Which exchange it belongs to, from 0; the first prompt and its reply are one.
    pub(crate) turn: usize,
}

/// What a trajectory is beside its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    /// Which of the prompts it is of: those of one prompt are a group.
    pub(crate) prompt: usize,
    /// Which of its prompt's.
    pub(crate) sample: usize,
    /// Of all authors, in order.
    pub(crate) ids: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// log p of each of the policy's tokens under the policy itself.
    pub(crate) log_probs: Vec<f32>,
    /// The same under what it was drawn from, after penalty, temperature and filters; 0 where the most likely was taken.
    pub(crate) sampling_log_probs: Vec<f32>,
    /// Whether the policy came to an end by itself.
    pub(crate) ended: bool,
}

/// A reply to a world, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    pub(crate) reply: String,
    /// What the world said to it, unless that was the end. It stands in the conversation where another reply follows.
    pub(crate) observation: Option<String>,
    pub(crate) reward: f64,
    /// What else the world said of it.
    pub(crate) columns: Object,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trajectory {
    pub(crate) prompt: String,
    /// All that was said after the prompt.
    pub(crate) completion: String,
    pub(crate) tokens: Tokens,
    /// Of a conversation with a world: every reply. Else none.
    pub(crate) turns: Vec<Turn>,
    pub(crate) rewards: BTreeMap<String, f64>,
    /// What the rewards come to.
    pub(crate) reward: Option<f64>,
    /// The other columns of its prompt's row.
    pub(crate) extra: Object,
}

impl Tokens {
    /// How many tokens the policy wrote.
    pub(crate) fn of_policy(&self) -> usize {
        let own = self.spans.iter().filter(|span| span.author == Author::Policy);
        own.map(|span| span.tokens).sum()
    }

    /// Where the policy's tokens stand.
    pub(crate) fn own(&self) -> Vec<Range<usize>> {
        let mut at = 0;
        let mut own = Vec::new();
        for span in &self.spans {
            if span.author == Author::Policy && span.tokens > 0 {
                own.push(at..at + span.tokens);
            }
            at += span.tokens;
        }
        own
    }

    /// How many tokens the policy wrote up to the end of each turn.
    pub(crate) fn by_turn(&self) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for span in self.spans.iter().filter(|span| span.author == Author::Policy) {
            let before = all.last().copied().unwrap_or(0);
            all.resize(span.turn, before);
            all.push(before + span.tokens);
        }
        all
    }

    /// Refuses a row whose parts do not belong together.
    fn check(&self) -> Result<(), String> {
        let all: usize = self.spans.iter().map(|span| span.tokens).sum();
        let own = self.of_policy();
        if all != self.ids.len() {
            return Err(format!(
                "its `spans` are of {all} tokens, and there are {}",
                self.ids.len()
            ));
        }
        if own != self.log_probs.len() || own != self.sampling_log_probs.len() {
            return Err(format!(
                "the policy wrote {own} tokens, and there are not as many log-probabilities"
            ));
        }
        Ok(())
    }
}

impl Trajectory {
    /// The last thing that the policy said: the completion, but for conversations.
    pub(crate) fn reply(&self) -> &str {
        self.turns.last().map_or(&self.completion, |turn| &turn.reply)
    }

    /// The reward, which `reward.judge` gives.
    pub(crate) fn judged(&self) -> Result<f64, StageError> {
        self.reward.ok_or_else(|| {
            StageError::refused(
                "these rollouts have no `reward`: give them one with `reward.judge`",
            )
        })
    }

    fn of(row: Row) -> Result<Self, String> {
        let Row { fields, mut extra } = row;
        let Fields::PromptCompletion(CompletionRow { prompt, completion }) = fields else {
            return Err("rollouts are completions of prompts".to_owned());
        };
        let mut column = |name: &str| extra.shift_remove(name);
        let tokens = column(ROLLOUT)
            .ok_or(format!("there is no column `{ROLLOUT}`: sample them with `rollout.sample`"))?;
        let read = |name: &str, error: serde_json::Error| format!("`{name}`: {error}");
        let tokens: Tokens =
            serde_json::from_value(tokens).map_err(|error| read(ROLLOUT, error))?;
        tokens.check()?;
        let rewards = column(REWARDS).map(serde_json::from_value).transpose();
        let rewards = rewards.map_err(|error| read(REWARDS, error))?.unwrap_or_default();
        let reward = column(REWARD).map(serde_json::from_value).transpose();
        let reward = reward.map_err(|error| read(REWARD, error))?;
        let turns = column(TURNS).map(serde_json::from_value).transpose();
        let turns = turns.map_err(|error| read(TURNS, error))?.unwrap_or_default();
        Ok(Self { prompt, completion, tokens, turns, rewards, reward, extra })
    }

    fn to_row(&self) -> Row {
        let mut extra = self.extra.clone();
        extra.insert(ROLLOUT.to_owned(), json!(self.tokens));
        if !self.rewards.is_empty() {
            extra.insert(REWARDS.to_owned(), json!(self.rewards));
        }
        if !self.turns.is_empty() {
            extra.insert(TURNS.to_owned(), json!(self.turns));
        }
        if let Some(reward) = self.reward {
            extra.insert(REWARD.to_owned(), json!(reward));
        }
        let (prompt, completion) = (self.prompt.clone(), self.completion.clone());
        Row { fields: Fields::PromptCompletion(CompletionRow { prompt, completion }), extra }
    }
}

/// The columns of a row without those of a trajectory that it may have been.
pub(crate) fn of_prompt(mut extra: Object) -> Object {
    extra.retain(|name: &String, _: &mut Value| {
        ![ROLLOUT, REWARDS, REWARD, TURNS].contains(&name.as_str())
    });
    extra
}

/// Whether what a row with these columns completes came to an end by itself; of no trajectory it is believed.
pub(crate) fn has_ended(extra: &Object) -> bool {
    let ended = extra.get(ROLLOUT).and_then(|it| it.get("ended"));
    ended.and_then(Value::as_bool).unwrap_or(true)
}

/// All trajectories that came in through `port`, of which there must be some.
pub(crate) fn read(port: &str, source: &Source) -> Result<Vec<Trajectory>, StageError> {
    let rows = Reader::open_some(port, source)?;
    if rows.format() != Format::PromptCompletion {
        return Err(StageError::refused(format!("the rows of `{port}` are no rollouts")));
    }
    let read = |(number, row): (usize, Result<Row, StageError>)| {
        let wrong =
            |why: String| StageError::refused(format!("`{port}`, row {}: {why}", number + 1));
        Trajectory::of(row?).map_err(wrong)
    };
    rows.enumerate().map(read).collect()
}

/// Writes them into a folder that is not there yet. What worlds said of some alone is null for the others.
pub(crate) fn write(folder: &Path, all: &[Trajectory]) -> Result<(), StageError> {
    let mut rows: Vec<Row> = all.iter().map(Trajectory::to_row).collect();
    let said = all.iter().flat_map(|it| &it.turns).flat_map(|turn| turn.columns.keys());
    let said: BTreeSet<&String> = said.collect();
    for row in &mut rows {
        for name in &said {
            row.extra.entry((*name).clone()).or_insert(Value::Null);
        }
    }
    write_all(folder, Format::PromptCompletion, &rows)
}

/// The positions of the trajectories of each prompt, in the order of the prompts' first.
pub(crate) fn groups(all: &[Trajectory]) -> Vec<Vec<usize>> {
    let mut known: BTreeMap<usize, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, trajectory) in all.iter().enumerate() {
        let group = *known.entry(trajectory.tokens.prompt).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(at);
    }
    groups
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::artifact::dataset_folder::source_at;

    /// The `sample`th completion of a prompt, with a reward.
    pub(crate) fn trajectory(prompt: usize, sample: usize, reward: f64) -> Trajectory {
        let span = |author, tokens| Span { author, tokens, turn: 0 };
        Trajectory {
            prompt: format!("prompt {prompt}"),
            completion: format!(" reply {sample}"),
            tokens: Tokens {
                prompt,
                sample,
                ids: vec![2, 3, 4],
                spans: vec![span(Author::Prompt, 1), span(Author::Policy, 2)],
                log_probs: vec![-0.5, -0.1],
                sampling_log_probs: vec![-0.5, -0.1],
                ended: true,
            },
            turns: Vec::new(),
            rewards: [("true".to_owned(), reward)].into(),
            reward: Some(reward),
            extra: Object::new(),
        }
    }

    #[test]
    fn trajectories_come_back_from_the_disk_with_what_their_prompts_had() {
        let place = tempfile::tempdir().unwrap();
        let mut all = vec![trajectory(0, 0, 1.0), trajectory(0, 1, 0.5), trajectory(3, 0, 0.25)];
        for it in &mut all {
            it.extra.insert("answer".to_owned(), json!("7"));
        }
        let turn = |reply: &str, observation: Option<&str>| Turn {
            reply: reply.to_owned(),
            observation: observation.map(str::to_owned),
            reward: 0.5,
            columns: Object::new(),
        };
        for it in &mut all {
            it.turns = vec![turn(" 6", Some("No.")), turn(" 7", None)];
            it.extra.insert("heard".to_owned(), Value::Null);
        }
        all[1].turns[1].columns.insert("heard".to_owned(), json!(2));
        all[1].extra.insert("heard".to_owned(), json!(2));
        write(&place.path().join("rollouts"), &all).unwrap();
        let source = source_at(&place.path().join("rollouts"));
        assert_eq!(read("rollouts", &source).unwrap(), all);
        assert_eq!(groups(&all), [vec![0, 1], vec![2]]);
        assert_eq!(
            of_prompt(all[0].to_row().extra).keys().collect::<Vec<_>>(),
            ["answer", "heard"]
        );
    }

    #[test]
    fn turns_are_told_apart_by_their_tokens() {
        let span = |author, tokens, turn| Span { author, tokens, turn };
        let mut it = trajectory(0, 0, 1.0);
        it.tokens.spans = vec![
            span(Author::Prompt, 4, 0),
            span(Author::Policy, 2, 0),
            span(Author::Environment, 3, 1),
            span(Author::Policy, 5, 1),
        ];
        assert_eq!(it.tokens.own(), [4..6, 9..14]);
        assert_eq!(it.tokens.by_turn(), [2, 7]);
        assert_eq!(it.reply(), " reply 0");
    }

    #[test]
    fn a_row_whose_parts_do_not_belong_together_is_refused() {
        let refused = |change: fn(&mut Trajectory)| {
            let mut it = trajectory(0, 0, 1.0);
            change(&mut it);
            Trajectory::of(it.to_row()).unwrap_err()
        };
        assert!(
            refused(|it| it.tokens.ids.push(5))
                .contains("`spans` are of 3 tokens, and there are 4")
        );
        assert!(
            refused(|it| it.tokens.log_probs.truncate(1)).contains("the policy wrote 2 tokens")
        );
        let mut row = trajectory(0, 0, 1.0).to_row();
        row.extra.shift_remove(ROLLOUT);
        assert!(Trajectory::of(row).unwrap_err().contains("`rollout.sample`"));
    }
}
