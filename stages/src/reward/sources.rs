//! Rewards by their names, and what several of them come to, for rollouts from the disk and for those of the moment alike.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    contest::Reply,
    expression::{Expression, is_name},
    judges::{Came, Judges},
    source::{From, Source},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{statistics::mean, stream::Stream},
    rollout::trajectories::{Trajectory, groups, read},
};

/// What every trajectory has without a source.
const OF_ALL: [&str; 3] = ["tokens", "turns", "ended"];

/// What rollouts are judged by: parameters of `reward.judge` and of whoever learns on-line.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Rewards {
    /// The rewards by their names, each with its source: `{ right: { from: answer, column: answer } }`.
    rewards: BTreeMap<String, Source>,
    /// What they come to: an expression over their names, `tokens` (how many the policy wrote), `turns` (how often it
    /// spoke) and `ended` (1 or 0), say `right + 0.2 * form - 0.001 * tokens`. Of a single reward that itself.
    #[serde(default)]
    reward: Option<String>,
}

/// The share of prompts whose completions, where there are several, all have one reward.
pub(crate) fn alike(all: &[Trajectory], rewards: &[f64]) -> f64 {
    let groups = groups(all);
    let several: Vec<_> = groups.iter().filter(|group| group.len() > 1).collect();
    let same = |group: &&&Vec<usize>| {
        group.iter().all(|at| (rewards[*at] - rewards[group[0]]).abs() < f64::EPSILON)
    };
    several.iter().filter(same).count() as f64 / several.len().max(1) as f64
}

impl Rewards {
    /// Those who judge, opened. What models and programs say of what may come again stands in the ledger, if it `keeps`.
    pub(crate) fn judges(
        &self,
        came: Came<'_>,
        keeps: bool,
        context: &Context,
    ) -> Result<Judges, StageError> {
        let asks = |(_, source): &(&String, &Source)| source.from == From::Program;
        let programs = self.rewards.iter().filter(asks);
        let programs = programs.map(|(name, it)| (name, &it.program));
        let mut judges = Judges::open(programs, came, keeps, context)?;
        judges.scales = self.scales(came.yardstick)?;
        Ok(judges)
    }

    /// Mean and deviation of those rewards that are standardised, over rollouts that have them already.
    fn scales(
        &self,
        yardstick: Option<&artifact::Rollouts>,
    ) -> Result<BTreeMap<String, [f64; 2]>, StageError> {
        let names: Vec<&String> =
            self.rewards.iter().filter(|(_, it)| it.standardise).map(|(name, _)| name).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let yardstick = yardstick.ok_or_else(|| {
            StageError::refused(format!(
                "`standardise` of the reward `{}` needs the input `yardstick`: rollouts, of the policy as it begins say, that \
                 `reward.judge` gave the same reward",
                names[0]
            ))
        })?;
        let all = read("yardstick", &yardstick.source)?;
        let scale = |name: &String| {
            let values: Option<Vec<f64>> =
                all.iter().map(|it| it.rewards.get(name).copied()).collect();
            let values = values.ok_or_else(|| {
                StageError::refused(format!("the rollouts of `yardstick` have no reward `{name}`"))
            })?;
            let centre = mean(&values);
            let squares: Vec<f64> = values.iter().map(|it| (it - centre).powi(2)).collect();
            let deviation = mean(&squares).sqrt();
            if deviation < 1e-12 {
                return Err(StageError::refused(format!(
                    "the reward `{name}` of `yardstick` is always {centre}, so it has no scale"
                )));
            }
            Ok((name.clone(), [centre, deviation]))
        };
        names.into_iter().map(scale).collect()
    }

    /// Gives every trajectory its rewards, from those who judge and where there is a rival from what that replied to each
    /// trajectory's prompt, and what they come to by `expression`, which [`Rewards::check`] gave. Returns the
    /// latter.
    pub(crate) fn judge(
        &self,
        expression: &Expression,
        all: &mut [Trajectory],
        (judges, rivals): (&Judges, Option<&[Vec<Reply>]>),
        mut draws: Stream,
        heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Vec<f64>, StageError> {
        for (name, source) in &self.rewards {
            let values = source.of(name, all, judges, rivals, draws.named(name), heard)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let value = values[at];
                return Err(StageError::refused(format!("row {}: `{name}` is {value}", at + 1)));
            }
            for (trajectory, value) in all.iter_mut().zip(values) {
                trajectory.rewards.insert(name.clone(), value);
            }
        }
        let mut rewards = Vec::new();
        for (at, trajectory) in all.iter_mut().enumerate() {
            let mut values = trajectory.rewards.clone();
            for (name, [centre, deviation]) in &judges.scales {
                values.entry(name.clone()).and_modify(|it| *it = (*it - centre) / deviation);
            }
            values.insert("tokens".to_owned(), trajectory.tokens.of_policy() as f64);
            values.insert("turns".to_owned(), trajectory.turns.len().max(1) as f64);
            values.insert("ended".to_owned(), f64::from(trajectory.tokens.ended));
            let wrong = |why| StageError::refused(format!("row {}: `reward`: {why}", at + 1));
            let reward = expression.of(&values).map_err(wrong)?;
            trajectory.reward = Some(reward);
            rewards.push(reward);
        }
        Ok(rewards)
    }

    /// What of the reward a conversation had before its last turn, turn by turn: by how much each raised what `expression`
    /// comes to. What judges the whole, a reward model say, comes with the last turn.
    pub(crate) fn earlier(
        &self,
        expression: &Expression,
        it: &Trajectory,
    ) -> Result<Vec<f64>, StageError> {
        let mut values: BTreeMap<String, f64> =
            it.rewards.keys().map(|name| (name.clone(), 0.0)).collect();
        values.insert("ended".to_owned(), 0.0);
        let given = |(_, source): &(&String, &Source)| source.from == From::Environment;
        let by_environment: Vec<&String> =
            self.rewards.iter().filter(given).map(|(name, _)| name).collect();
        let (mut before, mut so_far) = (0.0, 0.0);
        let mut parts = Vec::new();
        let turns = it.turns.iter().zip(it.tokens.by_turn()).zip(1..);
        for ((turn, tokens), number) in turns.take(it.turns.len().saturating_sub(1)) {
            so_far += turn.reward;
            for name in &by_environment {
                values.insert((*name).clone(), so_far);
            }
            values.insert("tokens".to_owned(), tokens as f64);
            values.insert("turns".to_owned(), f64::from(number));
            let wrong = |why| StageError::refused(format!("`reward` after turn {number}: {why}"));
            let value = expression.of(&values).map_err(wrong)?;
            parts.push(value - std::mem::replace(&mut before, value));
        }
        Ok(parts)
    }

    /// Whether one of them is a model's, which can be far from what it stands for.
    pub(crate) fn is_learnt(&self) -> bool {
        let learnt = [From::RewardModel, From::PreferenceModel];
        self.rewards.values().any(|it| learnt.contains(&it.from))
    }

    /// Whether there is one alone, and completions of a prompt are held against each other by it.
    pub(crate) fn is_against_others(&self) -> bool {
        self.rewards.len() == 1 && self.rewards.values().all(Source::is_against_others)
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rewards.keys().map(String::as_str)
    }

    /// What the rewards come to; an error if they cannot be what they are said to be, where there is a rival or none.
    pub(crate) fn check(&self, rival: bool) -> Result<Expression, StageError> {
        match self.rewards.iter().find(|(_, it)| it.needs_rival()) {
            Some((name, _)) if !rival => {
                return Err(StageError::refused(format!(
                    "the reward `{name}`: there is no rival here, so it is `against: others`, `opponents` or `column`"
                )));
            }
            None if rival => {
                return Err(StageError::refused(
                    "no reward is held `against: rival`, so there would be no game: \
                     `rewards: { win: { from: preference_model, against: rival } }`, say",
                ));
            }
            _ => {}
        }
        let names: Vec<&str> = self.rewards.keys().map(String::as_str).collect();
        for (name, source) in &self.rewards {
            if !is_name(name) || OF_ALL.contains(&name.as_str()) {
                return Err(StageError::refused(format!(
                    "no reward can be called `{name}`: letters, digits and `_`, and neither `tokens`, `turns` nor `ended`"
                )));
            }
            source
                .check()
                .map_err(|why| StageError::refused(format!("the reward `{name}`: {why}")))?;
        }
        let text = match (&self.reward, names.as_slice()) {
            (Some(text), _) => text.as_str(),
            (None, [only]) => only,
            (None, []) => return Err(StageError::refused("`rewards` names none")),
            (None, several) => {
                return Err(StageError::refused(format!(
                    "say what the rewards come to, `reward: {}`",
                    several.join(" + ")
                )));
            }
        };
        let known: Vec<&str> = names.into_iter().chain(OF_ALL).collect();
        Expression::read(text, &known).map_err(StageError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rollout::trajectories::tests::trajectory;

    fn checked(params: Value) -> Result<(), String> {
        let params: Rewards = serde_json::from_value(params).unwrap();
        params.check(false).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_a_reward_is_refused_before_anything_runs() {
        let right = json!({ "from": "answer", "column": "answer" });
        let form = json!({ "from": "format", "pattern": "^ [0-9]+$" });
        assert_eq!(checked(json!({ "rewards": { "right": right } })), Ok(()));
        let both = json!({ "right": right, "form": form });
        assert_eq!(checked(json!({ "rewards": both, "reward": "right + 0.1 * form" })), Ok(()));
        let refused = |params| checked(params).unwrap_err();
        insta::assert_snapshot!(refused(json!({ "rewards": both })), @"
    say what the rewards come to, `reward: form + right`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": both, "reward": "rihgt" })), @"
    `reward: rihgt` names `rihgt`, and there are `form`, `right`, `tokens`, `turns`, `ended`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "a": { "from": "answer" } } })), @"
    the reward `a`: `from: answer` needs a `column`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": { "tokens": right } })), @"
    no reward can be called `tokens`: letters, digits and `_`, and neither `tokens`, `turns` nor `ended`
    ");
        insta::assert_snapshot!(refused(json!({ "rewards": {} })), @"
    `rewards` names none
    ");
    }

    #[test]
    fn groups_of_one_reward_are_counted_where_there_are_several() {
        let of = |rewards: [f64; 5]| {
            let prompts = [0, 0, 1, 1, 2];
            let all: Vec<_> =
                prompts.into_iter().zip(rewards).map(|(p, r)| trajectory(p, 0, r)).collect();
            alike(&all, &rewards)
        };
        assert!((of([1.0, 1.0, 0.0, 1.0, 0.5]) - 0.5).abs() < 1e-12);
        assert!(of([0.0, 1.0, 0.0, 1.0, 0.5]) < 1e-12);
    }
}
