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
    port::file_of,
    program::{Program, Running},
};

/// Who judges, opened.
pub(crate) struct Judges {
    pub(super) true_reward: Option<TrueReward>,
    pub(super) reward_model: Option<(Pretrained, Page)>,
    pub(super) preference_model: Option<(Pretrained, Page)>,
    /// What others replied, by prompt.
    pub(super) opponents: Option<Replies>,
    /// The program that came in, and how it is run, for each reward that asks it.
    pub(super) programs: BTreeMap<String, (RefCell<Program>, Page)>,
}

/// Who came in to judge.
#[derive(Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) true_reward: Option<&'a artifact::TrueReward>,
    pub(crate) reward_model: Option<&'a artifact::RewardModel>,
    pub(crate) preference_model: Option<&'a artifact::PreferenceModel>,
    pub(crate) opponents: Option<&'a artifact::Completions>,
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
            preference_model: preference_model.transpose()?,
            opponents,
            programs: asked,
        })
    }
}

pub(super) fn lacks(from: &str, port: &str) -> StageError {
    StageError::refused(format!("`from: {from}` needs the input `{port}`"))
}
