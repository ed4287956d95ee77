//! Learning on-line without a critic: what comes in, what comes out, and the training, of every kind that needs no more.

use std::cell::RefCell;

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{
    method::{Method, Setting},
    online::{OnLine, Streams},
    players::Players,
    training::OnLineTraining,
};
use crate::{
    artifact,
    context::Context,
    environment::settings,
    error::StageError,
    nn::learner::learn,
    port::{Many, Out, ports},
    reward::judges::Came,
    rollout::trajectories::write,
    rules::{same_context, within_context},
    stage::{Given, Stage},
};

ports!(Inputs {
    /// Who learns.
    policy: artifact::Model,
    /// What it answers. Further columns, an answer say, are there for verifiers.
    prompts: artifact::Prompts,
    /// Prompts to measure the reward on, on the way as `evaluate_every` says; one completion of each.
    test: Option<artifact::Prompts>,
    /// What it is held to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// For rewards `from: reward_model`.
    reward_model: Option<artifact::RewardModel>,
    /// Several, for rewards that name one by `model`: the parts of a mix, or an ensemble.
    reward_models: Option<Many<artifact::RewardModel>>,
    /// Rollouts by which rewards are measured that say `standardise`, judged by the same rewards.
    yardstick: Option<artifact::Rollouts>,
    /// For rewards `from: preference_model`.
    preference_model: Option<artifact::PreferenceModel>,
    /// For preferences `against: opponents`: what others replied to the same prompts, rollouts of another policy say.
    opponents: Option<artifact::Completions>,
    /// For rewards `from: true_reward`, `true_preference` and `proxy`, and `environment: { from: true_reward }`.
    true_reward: Option<artifact::TrueReward>,
    /// For rewards `from: program`: the program.
    judge: Option<artifact::File>,
    /// For `environment: { from: program }`: the program.
    environment: Option<artifact::File>,
});
ports!(Outputs {
    /// The policy after the last iteration.
    model: Out<artifact::Model>,
    /// Numbers of every iteration.
    curve: Out<artifact::Metrics>,
    /// Some of its completions, to be read: `samples_every` says of which iterations, and the column `iteration` of which one.
    samples: Out<artifact::Rollouts>,
});

/// How a kind learns.
pub(crate) struct How<'a> {
    pub(super) training: &'a OnLineTraining,
    /// Completions of each prompt.
    pub(super) samples: usize,
    pub(super) method: Method,
    /// Whether it needs a reference; one that came in is measured against anyway.
    pub(super) held: bool,
}

/// What a kind says of itself that learns on-line without a critic; all else is the same for each.
pub(crate) trait CriticFree {
    const KIND: &'static str;
    const REVISION: u32;
    const DOC: &'static str;
    type Params: DeserializeOwned + JsonSchema;

    /// What its own parameters must not say together.
    fn rules() -> Vec<Rule> {
        Vec::new()
    }

    /// What is worth a word beside numbers of its own.
    fn advice() -> Vec<Rule> {
        Vec::new()
    }

    /// How it learns; an error if its parameters cannot be what they are said to be.
    fn how(params: &Self::Params) -> Result<How<'_>, StageError>;
}

impl<K: CriticFree> Stage for K {
    const KIND: &'static str = <K as CriticFree>::KIND;
    const REVISION: u32 = <K as CriticFree>::REVISION;
    const LOOKS: bool = true;
    const DOC: &'static str = <K as CriticFree>::DOC;
    type Params = <K as CriticFree>::Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let mut rules = OnLineTraining::rules();
        rules.push(within_context("max_new_tokens", "policy"));
        rules.extend(<K as CriticFree>::rules());
        rules
    }

    fn advice() -> Vec<Rule> {
        let mut advice = OnLineTraining::advice();
        advice.extend(<K as CriticFree>::advice());
        advice
    }

    fn length() -> Option<Length> {
        Some(OnLineTraining::length())
    }

    fn rehearsal() -> serde_json::Value {
        OnLineTraining::rehearsal(2)
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "policy");
    }

    fn look(params: &<K as CriticFree>::Params, _inputs: &Given) -> Result<(), StageError> {
        let how = K::how(params)?;
        how.training.rewards.check(how.method.rival.is_some()).map(drop)
    }

    fn run(
        params: <K as CriticFree>::Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        train(K::how(&params)?, &inputs, &outputs, context)
    }
}

/// Learns, and writes what comes of it.
fn train(
    how: How<'_>,
    inputs: &Inputs,
    outputs: &Outputs,
    context: &mut Context,
) -> Result<(), StageError> {
    let How { training, samples, method, held } = how;
    let expression = training.rewards.check(method.rival.is_some())?;
    let sizes = training.sizes(samples);
    let reference = inputs.reference.as_ref();
    let players = Players::open(&inputs.policy, reference, held || reference.is_some(), context)?;
    let ready = players.ready("", "prompts", &inputs.prompts, sizes.max_new_tokens, context)?;
    let test = inputs.test.as_ref();
    let test = test.map(|it| players.ready("test_", "test", it, sizes.max_new_tokens, context));
    let test = test.transpose()?;
    let true_reward = inputs.true_reward.as_ref();
    let came = Came {
        true_reward,
        reward_model: inputs.reward_model.as_ref(),
        reward_models: inputs.reward_models.as_ref(),
        yardstick: inputs.yardstick.as_ref(),
        preference_model: inputs.preference_model.as_ref(),
        opponents: inputs.opponents.as_ref(),
        program: inputs.judge.as_ref(),
    };
    let judges = training.rewards.judges(came, false, context)?;
    let came = settings::Came { true_reward, program: inputs.environment.as_ref() };
    let world = settings::opened(training.environment.as_ref(), came)?.map(RefCell::new);
    let setting = Setting {
        policy: &players.policy,
        reference: players.reference.as_ref(),
        critic: None,
        prompts: &ready,
        test: test.as_ref(),
        resets: None,
        world,
        rewards: &training.rewards,
        expression: &expression,
        judges: &judges,
        method,
        sizes,
        reading: training.reading(),
    };
    let mut learner = OnLine::new(setting, training.stepper(&sizes), Streams::of(context), None);
    let learnt = learn(&mut learner, training.iterations, &training.watch, context)?;
    write(&outputs.samples.path, learner.samples())?;
    learner.settle();
    for (name, value) in training.summary(&learnt.curve) {
        context.summary(&name, value);
    }
    players.policy.save(&outputs.model.path)?;
    context.learnt(&learnt, &outputs.curve.path)
}
