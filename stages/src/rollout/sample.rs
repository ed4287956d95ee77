//! `rollout.sample`: completions of prompts by a policy, kept with their tokens and log-probabilities for whoever judges,
//! filters or learns from them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    asked::Asked,
    decoding::{Decoding, Wanted},
    sampler::Ready,
    trajectories::{Tokens, Trajectory, write},
};
use crate::{
    artifact::{self, digest::digest},
    context::Context,
    environment::settings::{Came, Environment, opened},
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    port::{Out, ports},
    prepare::examples::prompts,
    rules::{rule, within_context},
    stage::Stage,
};

/// Sample from a policy.
pub(crate) struct Sample;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    wanted: Wanted,
    /// Whom the policy talks to. By default to nobody: a completion is all that it says.
    #[serde(default)]
    environment: Option<Environment>,
}

ports!(Inputs {
    /// Who completes.
    policy: artifact::Model,
    /// What to complete. Further columns, an answer say, stay with every completion.
    prompts: artifact::Prompts,
    /// For `environment: { from: program }`: the program.
    environment: Option<artifact::File>,
    /// For `environment: { from: true_reward }`.
    true_reward: Option<artifact::TrueReward>,
});
ports!(Outputs {
    /// The completions, those of a prompt one behind the other.
    rollouts: Out<artifact::Rollouts>,
});

impl Stage for Sample {
    const KIND: &'static str = "rollout.sample";
    const REVISION: u32 = 2;
    const BY_ROW: &'static [&'static str] = &["prompts"];
    const DOC: &'static str = "Sample completions of prompts, with their tokens and log-probabilities.

Rollouts are a data set of completions with more columns, so `train.sft` learns from them as they are, and a \
program can judge them. Prompts that leave no room for `max_new_tokens` in the policy's context are left out and \
counted; a prompt that stands in several rows is completed once.

With an `environment` the policy replies, hears what comes of it, and replies again, until all is said, `turns` are over, or \
no room is left for another exchange (`conversations_cut`). The column `rollout` says who wrote which tokens, and `turns` has the \
replies, with rewards. `environment` is the mean of what a conversation was given.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "prompts": 16, "samples_per_prompt": 2, "max_new_tokens": 8 })
    }

    fn rules() -> Vec<gradus_protocol::catalog::Rule> {
        let mut rules = Decoding::rules();
        rules.push(within_context("max_new_tokens", "policy"));
        rules
    }

    fn advice() -> Vec<gradus_protocol::catalog::Rule> {
        vec![rule(
            "only {ended} of the completions end by themselves: whoever judges them judges texts that \
             `max_new_tokens` cut, so raise it",
            [crate::rules::param("ended").below(0.5)],
        )]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let source = &inputs.policy.source;
        let policy = Pretrained::open("policy", source, Head::LanguageModel, context.device)?;
        let prompts = prompts("prompts", &inputs.prompts.source, params.wanted.prompts)?;
        context.summary("prompts_repeated", prompts.repeated as f64);
        let decoding = &params.wanted.decoding;
        let asked = Asked::each(prompts);
        let ready = Ready::new("", &policy, asked, decoding.room(), context)?;
        let policy_is = digest(source)?;
        let came =
            Came { true_reward: inputs.true_reward.as_ref(), program: inputs.environment.as_ref() };
        let mut world = opened(params.environment.as_ref(), came)?;
        let turns = world.as_ref().map_or(1, |it| it.turns);
        let batch = params.wanted.batch;
        let found =
            ready.sampled((&policy, &policy_is), decoding, batch, world.as_mut(), context)?;
        let cut = found.iter().filter(|it| it.is_cut(turns)).count();
        let each = ready
            .asked
            .iter()
            .flat_map(|asked| (0..decoding.samples_per_prompt).map(move |sample| (asked, sample)));
        let all: Vec<Trajectory> = found
            .into_iter()
            .zip(each)
            .map(|(said, (asked, sample))| said.trajectory(asked, asked.number, sample))
            .collect();
        let count = all.len() as f64;
        if world.is_some() {
            let mean = |of: &dyn Fn(&Trajectory) -> f64| all.iter().map(of).sum::<f64>() / count;
            let reward = |it: &Trajectory| it.turns.iter().map(|turn| turn.reward).sum();
            context.summary("environment", mean(&reward));
            context.summary("turns", mean(&|it| it.turns.len() as f64));
            context.summary("conversations_cut", cut as f64);
        }
        let mean =
            |of: &dyn Fn(&Tokens) -> f64| all.iter().map(|it| of(&it.tokens)).sum::<f64>() / count;
        context.summary("samples", count);
        context.summary("ended", mean(&|it| f64::from(it.ended)));
        context.summary("tokens", mean(&|it| it.of_policy() as f64));
        let own = |it: &Tokens| it.log_probs.iter().map(|it| f64::from(*it)).sum();
        context.summary("log_prob", mean(&own));
        write(&outputs.rollouts.path, &all)
    }
}
