//! Who judges: what came in for the rewards that need somebody, opened once.

use std::{cell::RefCell, collections::BTreeMap};

use gradus_protocol::Page;
use serde_json::{Value, json};

use super::contest::{Replies, replies_of};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    port::{Many, file_of},
    program::{Program, Running},
};

/// Who judges, opened.
pub(crate) struct Judges {
    pub(super) true_reward: Option<TrueReward>,
    reward_model: Option<(Pretrained, Page)>,
    /// Further ones, by the names of the stages that made them.
    reward_models: Vec<(String, (Pretrained, Page))>,
    pub(super) preference_model: Option<(Pretrained, Page)>,
    /// What others replied, by prompt.
    pub(super) opponents: Option<Replies>,
    /// The program that came in, and how it is run, for each reward that asks it.
    pub(super) programs: BTreeMap<String, (RefCell<Program>, Page)>,
    /// Mean and deviation of rewards that are standardised, over what came in as a yardstick.
    pub(super) scales: BTreeMap<String, [f64; 2]>,
}

/// Who came in to judge.
#[derive(Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) true_reward: Option<&'a artifact::TrueReward>,
    pub(crate) reward_model: Option<&'a artifact::RewardModel>,
    pub(crate) reward_models: Option<&'a Many<artifact::RewardModel>>,
    pub(crate) preference_model: Option<&'a artifact::PreferenceModel>,
    pub(crate) opponents: Option<&'a artifact::Completions>,
    pub(crate) yardstick: Option<&'a artifact::Rollouts>,
    pub(crate) program: Option<&'a artifact::File>,
}

impl Judges {
    /// Opens those that came in, and a program for each reward that is to ask it, by name. What models and programs say of what
    /// may come again stands in the ledger, if it `keeps`.
    pub(super) fn open<'r>(
        programs: impl Iterator<Item = (&'r String, &'r Running)>,
        came: Came<'_>,
        keeps: bool,
        context: &Context,
    ) -> Result<Self, StageError> {
        let true_reward =
            came.true_reward.map(|it| TrueReward::load(file_of(&it.source)?)).transpose()?;
        let page = |of: &str, revision: u32, settings: &Value| {
            if keeps { context.page(of, revision, settings) } else { Page::blank() }
        };
        let opened = |role, source, (of, revision)| {
            let judge = Pretrained::open(role, source, Head::Score, context.device)?;
            let page = page(of, revision, &json!(Some(digest(source)?)));
            Ok::<_, StageError>((judge, page))
        };
        let reward_model = came.reward_model.map(|it| &it.source);
        let reward_model = reward_model.map(|it| opened("reward_model", it, ("score", 2)));
        let several = came.reward_models.iter().flat_map(|it| &it.0);
        let several = several.map(|(name, it)| {
            Ok((name.clone(), opened("reward_models", &it.source, ("score", 2))?))
        });
        let reward_models = several.collect::<Result<_, StageError>>()?;
        let preference_model = came.preference_model.map(|it| &it.source);
        let preference_model =
            preference_model.map(|it| opened("preference_model", it, ("contest", 1)));
        let opponents = came.opponents.map(|it| replies_of("opponents", &it.source)).transpose()?;
        let mut asked = BTreeMap::new();
        for (name, running) in programs {
            let program = &came.program.ok_or_else(|| lacks("program", "judge"))?.source;
            let settings = json!([digest(program)?, running.words()]);
            let page = page("program", 1, &settings);
            let program = RefCell::new(Program::place("judge", program, running)?);
            asked.insert(name.clone(), (program, page));
        }
        Ok(Self {
            true_reward,
            reward_model: reward_model.transpose()?,
            reward_models,
            preference_model: preference_model.transpose()?,
            opponents,
            programs: asked,
            scales: BTreeMap::new(),
        })
    }

    /// The reward model of the stage `name`, or the one that came in alone.
    pub(super) fn reward_model(
        &self,
        name: Option<&str>,
    ) -> Result<&(Pretrained, Page), StageError> {
        let Some(name) = name else {
            return self.reward_model.as_ref().ok_or_else(|| lacks("reward_model", "reward_model"));
        };
        let known: Vec<&str> = self.reward_models.iter().map(|(label, _)| label.as_str()).collect();
        let found: Vec<_> = self.reward_models.iter().filter(|it| is_of(&it.0, name)).collect();
        match found[..] {
            [(_, found)] => Ok(found),
            [] => Err(StageError::refused(format!(
                "`model: {name}` is none of the input `reward_models`: there are {known:?}"
            ))),
            _ => Err(StageError::refused(format!(
                "`model: {name}` may be several of the input `reward_models`: say which of {known:?}"
            ))),
        }
    }
}

/// Says whether what came in under this label is meant by `name`: all of the label, or the stage's own name in it.
fn is_of(label: &str, name: &str) -> bool {
    let stage = label.split('[').next().unwrap_or(label);
    label == name || stage == name || stage.rsplit('/').next() == Some(name)
}

pub(super) fn lacks(from: &str, port: &str) -> StageError {
    StageError::refused(format!("`from: {from}` needs the input `{port}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_meant_by_its_label_or_its_stage() {
        assert!(is_of("runs/love[seed=1]", "love") && is_of("love", "love"));
        assert!(is_of("love[seed=1]", "love[seed=1]") && is_of("runs/love", "runs/love"));
        assert!(!is_of("runs/love", "runs") && !is_of("glove", "love"));
    }
}
