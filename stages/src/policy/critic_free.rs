//! Learning on-line without a critic: what comes in, what comes out, and the training, of every kind that needs no more.

use std::cell::RefCell;

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
    port::{Out, ports},
    reward::sources::{Came, Judges},
    rollout::trajectories::write,
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
    /// For rewards `from: true_reward` and `proxy`, and `environment: { from: true_reward }`.
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
pub(super) struct How<'a> {
    pub(super) training: &'a OnLineTraining,
    /// Completions of each prompt.
    pub(super) samples: usize,
    pub(super) method: Method,
    /// Whether it needs a reference; one that came in is measured against anyway.
    pub(super) held: bool,
}

/// Learns, and writes what comes of it.
pub(super) fn train(
    how: How<'_>,
    inputs: &Inputs,
    outputs: &Outputs,
    context: &mut Context,
) -> Result<(), StageError> {
    let How { training, samples, method, held } = how;
    let expression = training.rewards.check()?;
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
        program: inputs.judge.as_ref(),
    };
    let judges = Judges::open(&training.rewards, came, false, context)?;
    let came = settings::Came { true_reward, program: inputs.environment.as_ref() };
    let world = settings::opened(training.environment.as_ref(), came)?.map(RefCell::new);
    let setting = Setting {
        policy: &players.policy,
        reference: players.reference(),
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
