//! `reward.judge`: gives rollouts rewards, each a number with a name and a source, and says what they come to.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    judges::Came,
    sources::{Rewards, alike},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::statistics::mean,
    port::{Many, Out, ports},
    rollout::trajectories::{read, write},
    rules::{param, rule},
    stage::{Given, Stage},
};

/// Judge rollouts.
pub(crate) struct Judge;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    rewards: Rewards,
}

ports!(Inputs {
    /// What is judged. Rewards that it has already stay, unless one of the same name is given.
    rollouts: artifact::Rollouts,
    /// Scores completions; any tokenizer will do, as texts go to it.
    reward_model: Option<artifact::RewardModel>,
    /// Several, for rewards that name one by `model`: the parts of a mix, or an ensemble.
    reward_models: Option<Many<artifact::RewardModel>>,
    /// Rollouts by which rewards are measured that say `standardise`, judged by the same rewards.
    yardstick: Option<artifact::Rollouts>,
    /// For rewards `from: preference_model`.
    preference_model: Option<artifact::PreferenceModel>,
    /// For preferences `against: opponents`: what others replied to the same prompts, rollouts of another policy say.
    opponents: Option<artifact::Completions>,
    /// The reward that made the data.
    true_reward: Option<artifact::TrueReward>,
    /// The program of rewards `from: program`.
    judge: Option<artifact::File>,
});
ports!(Outputs {
    /// The same, with `rewards` and `reward`.
    rollouts: Out<artifact::Rollouts>,
});

impl Stage for Judge {
    const KIND: &'static str = "reward.judge";
    const REVISION: u32 = 2;
    const BY_ROW: &'static [&'static str] = &["rollouts"];
    const LOOKS: bool = true;
    const DOC: &'static str = "Give rollouts rewards from models, verifiers and rules, and combine them.

The mean of every reward is a metric by its name. Groups of completions of one prompt that all have the same reward \
teach nothing to who compares within groups: `groups_alike` is their share.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![rule(
            "in {groups_alike} of the groups all rewards are alike, and who compares within a group learns nothing from \
             them: sample more of each prompt, or other prompts",
            [param("groups_alike").above(0.7)],
        )]
    }

    fn look(params: &Params, _inputs: &Given) -> Result<(), StageError> {
        params.rewards.check(false).map(drop)
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let mut all = read("rollouts", &inputs.rollouts.source)?;
        let expression = params.rewards.check(false)?;
        let came = Came {
            true_reward: inputs.true_reward.as_ref(),
            reward_model: inputs.reward_model.as_ref(),
            reward_models: inputs.reward_models.as_ref(),
            yardstick: inputs.yardstick.as_ref(),
            preference_model: inputs.preference_model.as_ref(),
            opponents: inputs.opponents.as_ref(),
            program: inputs.judge.as_ref(),
        };
        let judges = params.rewards.judges(came, true, context)?;
        let draws = context.stream("rewards");
        let mut heard = |done, of| context.rows(done, of, "samples scored");
        let rewards =
            params.rewards.judge(&expression, &mut all, (&judges, None), draws, &mut heard)?;
        for name in params.rewards.names() {
            let own: Vec<f64> = all.iter().map(|it| it.rewards[name]).collect();
            context.summary(name, mean(&own));
        }
        context.summary("reward", mean(&rewards));
        context.summary("groups_alike", alike(&all, &rewards));
        write(&outputs.rollouts.path, &all)
    }
}
