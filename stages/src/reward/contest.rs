//! Two replies to one prompt, and how often the one is preferred: `P(y ≻ y' | x)`. What a completion is worth is the mean over those
//! that it is held against, which estimates `P(y ≻ π' | x)` for the policy π' that they are of (Munos et al. 2023).

use std::collections::BTreeMap;

use gradus_protocol::{Page, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    artifact::{dataset_folder::Reader, true_reward::TrueReward},
    error::StageError,
    nn::{pretrained::Pretrained, scores::scores, statistics::mean},
    prepare::examples::facing,
    rollout::trajectories::{Trajectory, groups, has_ended},
};

/// What a completion is held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Against {
    /// The other completions of its prompt: what the policy itself says.
    #[default]
    Others,
    /// What others replied to its prompt: the input `opponents`.
    Opponents,
    /// The reply that stands in `column` of the prompt's row.
    Column,
    /// What the rival replies with whom the policy learns: of kinds that name one, `policy.nash_md` say.
    Rival,
}

/// What somebody replied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) ended: bool,
}

/// What others replied, by prompt.
pub(super) type Replies = BTreeMap<String, Vec<Reply>>;

/// Reads what others replied.
pub(super) fn replies_of(port: &str, source: &Source) -> Result<Replies, StageError> {
    let mut replies = Replies::new();
    for row in Reader::open_some(port, source)? {
        let row = row?;
        let text = row.completion().unwrap_or_default().to_owned();
        let reply = Reply { text, ended: has_ended(&row.extra) };
        replies.entry(row.prompt().to_owned()).or_default().push(reply);
    }
    Ok(replies)
}

/// A prompt with the reply that is judged and the one that it is held against.
pub(crate) struct Contest {
    prompt: String,
    replies: [Reply; 2],
}

impl Against {
    /// The contests of every completion, of which each has one at least.
    pub(super) fn contests(
        self,
        all: &[Trajectory],
        column: &str,
        opponents: Option<&Replies>,
        rivals: Option<&[Vec<Reply>]>,
    ) -> Result<Vec<Vec<Contest>>, StageError> {
        let own = |it: &Trajectory| Reply { text: it.completion.clone(), ended: it.tokens.ended };
        let against = |it: &Trajectory, others: Vec<Reply>| {
            let contest = |other| Contest { prompt: it.prompt.clone(), replies: [own(it), other] };
            others.into_iter().map(contest).collect::<Vec<_>>()
        };
        let mut found: Vec<Vec<Contest>> = all.iter().map(|_| Vec::new()).collect();
        match self {
            Self::Others => {
                for group in groups(all) {
                    if group.len() < 2 {
                        return Err(StageError::refused(
                            "a completion is held `against: others` of its prompt, and there are none: raise \
                             `samples_per_prompt`",
                        ));
                    }
                    for at in &group {
                        let others = group.iter().filter(|it| *it != at);
                        found[*at] = against(&all[*at], others.map(|it| own(&all[*it])).collect());
                    }
                }
            }
            Self::Opponents => {
                let opponents = opponents.ok_or_else(|| {
                    StageError::refused("`against: opponents` needs the input `opponents`")
                })?;
                for (it, contests) in all.iter().zip(&mut found) {
                    let others = opponents.get(&it.prompt).cloned().ok_or_else(|| {
                        StageError::refused(format!(
                            "`opponents` have no reply to the prompt {:?}: sample them for the same prompts",
                            it.prompt
                        ))
                    })?;
                    *contests = against(it, others);
                }
            }
            Self::Rival => {
                let rivals = rivals.ok_or_else(|| {
                    StageError::refused(
                        "`against: rival` is of kinds that name a rival, `policy.nash_md` say: here it is `others`, `opponents` \
                         or `column`",
                    )
                })?;
                for ((it, contests), rivals) in all.iter().zip(&mut found).zip(rivals) {
                    *contests = against(it, rivals.clone());
                }
            }
            Self::Column => {
                for (row, (it, contests)) in all.iter().zip(&mut found).enumerate() {
                    let text = it.extra.get(column).and_then(Value::as_str).ok_or_else(|| {
                        StageError::refused(format!("row {}: there is no text `{column}`", row + 1))
                    })?;
                    *contests = against(it, vec![Reply { text: text.to_owned(), ended: true }]);
                }
            }
        }
        Ok(found)
    }
}

/// How often each completion wins, on average over its contests; `judge` says so of all contests.
pub(super) fn won(
    contests: &[Vec<Contest>],
    judge: impl FnOnce(&[&Contest]) -> Result<Vec<f64>, StageError>,
) -> Result<Vec<f64>, StageError> {
    let all: Vec<&Contest> = contests.iter().flatten().collect();
    let mut odds = judge(&all)?.into_iter();
    let own = |its: &Vec<Contest>| mean(&odds.by_ref().take(its.len()).collect::<Vec<_>>());
    Ok(contests.iter().map(own).collect())
}

/// `σ(f(x, y, y') − f(x, y', y))` by a preference model, of whatever tokenizer; `page` is of it.
pub(crate) fn asked(
    all: &[&Contest],
    judge: &Pretrained,
    page: &Page,
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let mut texts = Vec::new();
    for it in all {
        texts.extend(it.texts(judge)?);
    }
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    judge.bears(longest, "the prompts with two replies")?;
    let found = scores(&judge.model, &texts, Some(page), report)?;
    Ok(found.chunks(2).map(|two| 1.0 / (1.0 + (two[1] - two[0]).exp())).collect())
}

/// What people truly prefer.
pub(crate) fn known(all: &[&Contest], reward: &TrueReward) -> Result<Vec<f64>, StageError> {
    let of = |it: &&Contest| {
        let [one, other] = &it.replies;
        reward.preference(&it.prompt, &one.text, &other.text).ok_or_else(|| {
            StageError::refused(
                "`from: true_preference`: this task has a reward, and no preferences besides",
            )
        })
    };
    all.iter().map(of).collect()
}

impl Contest {
    pub(crate) fn new(prompt: &str, replies: [Reply; 2]) -> Self {
        Self { prompt: prompt.to_owned(), replies }
    }

    /// Both orders as a preference model reads them.
    fn texts(&self, judge: &Pretrained) -> Result<[Vec<u32>; 2], StageError> {
        let codec = &judge.codec;
        let whole = |reply: &Reply| {
            let end = if reply.ended { codec.eos_text.as_str() } else { "" };
            codec.encode(&format!("{}{}{end}", self.prompt, reply.text))
        };
        let alone = codec.encode_open(&self.prompt)?;
        let (one, other) = (whole(&self.replies[0])?, whole(&self.replies[1])?);
        let agreeing = |it: &[u32]| alone.iter().zip(it).take_while(|(a, b)| a == b).count();
        let prompt = agreeing(&one).min(agreeing(&other));
        Ok([facing(&one, &other, prompt, codec.eos), facing(&other, &one, prompt, codec.eos)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rollout::trajectories::tests::trajectory;

    fn texts(contests: &[Vec<Contest>]) -> Vec<Vec<&str>> {
        let mut all = Vec::new();
        for own in contests {
            all.push(own.iter().map(|it| &*it.replies[1].text).collect());
        }
        all
    }

    #[test]
    fn completions_are_held_against_those_that_are_named() {
        let mut all = vec![trajectory(0, 0, 0.0), trajectory(0, 1, 0.0), trajectory(0, 2, 0.0)];
        let found = Against::Others.contests(&all, "", None, None).unwrap();
        let [a, b, c] = [" reply 0", " reply 1", " reply 2"];
        assert_eq!(texts(&found), [[b, c], [a, c], [a, b]]);
        let lone = Against::Others.contests(&all[..1], "", None, None).err().unwrap().to_string();
        assert!(lone.contains("raise `samples_per_prompt`"), "{lone}");
        let reply = Reply { text: " else".to_owned(), ended: true };
        let replies: Replies = [("prompt 0".to_owned(), vec![reply])].into();
        let found = Against::Opponents.contests(&all, "", Some(&replies), None).unwrap();
        assert_eq!(texts(&found), [[" else"], [" else"], [" else"]]);
        let lost = Against::Opponents.contests(&[trajectory(1, 0, 0.0)], "", Some(&replies), None);
        assert!(lost.err().unwrap().to_string().contains("no reply to the prompt \"prompt 1\""));
        all[1].extra.insert("best".to_owned(), json!(" this"));
        let found = Against::Column.contests(&all[1..2], "best", None, None).unwrap();
        assert_eq!(texts(&found), [[" this"]]);
        let rival = |text: &str| vec![Reply { text: text.to_owned(), ended: true }];
        let rivals = [rival(" one"), rival(" two"), rival(" three")];
        let found = Against::Rival.contests(&all, "", None, Some(&rivals)).unwrap();
        assert_eq!(texts(&found), [[" one"], [" two"], [" three"]]);
        assert!(Against::Rival.contests(&all, "", None, None).is_err());
        let lost = Against::Column.contests(&all, "best", None, None).err().unwrap().to_string();
        assert_eq!(lost, "row 1: there is no text `best`");
    }

    #[test]
    fn a_completion_is_worth_the_mean_of_its_contests() {
        let all = [trajectory(0, 0, 0.0), trajectory(0, 1, 0.0), trajectory(0, 2, 0.0)];
        let contests = Against::Others.contests(&all, "", None, None).unwrap();
        let odds = vec![1.0, 0.5, 0.0, 0.25, 0.5, 0.75];
        let found = won(&contests, |all| {
            assert_eq!(all.len(), 6);
            Ok(odds)
        });
        assert_eq!(found.unwrap(), [0.75, 0.125, 0.625]);
    }
}
