//! `policy.ppo`: proximal policy optimisation with a critic (Schulman et al. 2017), with what Zheng et al. 2023 ("Secrets of
//! RLHF, Part I: PPO") found to keep it stable: PPO-max.
//!
//! A token's reward is what the completion is worth, at its last, less the divergence from the reference, at each. A critic
//! says what was to be expected, and the policy takes clipped steps towards what was better.

use std::cell::RefCell;

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    credit::Credit,
    critic::ValueLoss,
    method::{Method, Setting},
    online::{OnLine, Streams},
    players::Players,
    resets::Resets,
    shaping::{Estimator, Scaling, Shaping, Target},
    surrogate::{Surrogate, SurrogateLoss},
    training::OnLineTraining,
};
use crate::{
    artifact,
    context::Context,
    environment::settings,
    error::StageError,
    nn::{
        learner::learn,
        schedule::{Decay, Schedule},
    },
    port::{Many, Out, ports},
    reward::judges::Came,
    rollout::trajectories::write,
    rules::{param, rule, same_context, within_context},
    stage::{Given, Stage},
};

/// Proximal policy optimisation.
pub(crate) struct Ppo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: OnLineTraining,
    /// Completions of each prompt.
    #[serde(default = "single")]
    #[schemars(range(min = 1))]
    samples_per_prompt: usize,

    /// What rewards are divided by (PPO-max: `normalised`).
    #[serde(default)]
    reward_scaling: Scaling,
    /// Scaled rewards stay within plus and minus this (PPO-max: 0.8).
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    reward_clip: Option<f64>,
    /// What a nat of divergence from the reference costs, at every token; it is part of the reward, so the critic sees it.
    #[serde(default = "twentieth")]
    #[schemars(range(min = 0.0))]
    kl_coefficient: f64,
    /// How the divergence of a token is estimated.
    #[serde(default)]
    kl_estimator: Estimator,
    /// Nats a completion that `kl_coefficient` is adapted to keep; without it it stays.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    kl_target: Option<f64>,
    /// Completions over which the coefficient is adapted; more make it slower.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1.0))]
    kl_horizon: f64,

    /// How much a later reward counts of one a token earlier.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    gamma: f64,
    /// Whom an advantage believes: 0 the critic's next value, 1 all that came after.
    #[serde(default = "most")]
    #[schemars(range(min = 0.0, max = 1.0))]
    lambda: f64,
    /// Whether the mean is taken off advantages and they are divided by their deviation, over the tokens that are learnt from
    /// (PPO-max: no, as rewards are normalised).
    #[serde(default = "yes")]
    whiten_advantages: bool,
    /// Advantages stay within plus and minus this.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    advantage_clip: Option<f64>,

    /// Ratios to what sampled count between 1 less this and 1 and this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip: f64,
    /// The most that the ratio of a bad token counts, however likely it has become (dual clip; Ye et al. 2020, eq. 5).
    #[serde(default)]
    #[schemars(range(min = 1.0))]
    most_ratio: Option<f64>,

    /// The critic's largest step size; the policy's by default. Its schedule is constant.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    critic_learning_rate: Option<f64>,
    /// Weight of the critic's loss.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    value_weight: f64,
    /// By how much a value may move from what it was when sampled, as far as the loss sees (PPO-max: 0.2, with normalised
    /// rewards; where rewards are large it holds the critic back). None by default.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    value_clip: Option<f64>,
    /// Iterations at the beginning in which the critic alone learns (PPO-max).
    #[serde(default)]
    critic_first: usize,

    /// The share of completions that begin within an answer of `resets`, at a random place, and not at the prompt (DR-PO).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    reset_share: f64,

    /// Weight of the loss of `texts`, which are to stay likely.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    text_weight: f64,
}

fn single() -> usize {
    1
}
fn one() -> f64 {
    1.0
}
fn most() -> f64 {
    0.95
}
fn fifth() -> f64 {
    0.2
}
fn twentieth() -> f64 {
    0.05
}
fn ten_thousand() -> f64 {
    10_000.0
}
fn yes() -> bool {
    true
}

ports!(Inputs {
    /// Who learns.
    policy: artifact::Model,
    /// What it answers. Further columns, an answer say, are there for verifiers.
    prompts: artifact::Prompts,
    /// Prompts to measure the reward on, on the way as `evaluate_every` says; one completion of each.
    test: Option<artifact::Prompts>,
    /// What `kl_coefficient` holds it to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// Where the critic begins, the reward model say, with the policy's tokenizer; the policy with a fresh head by default.
    critic: Option<artifact::RewardModel>,
    /// Completions that are to stay likely, as `text_weight` says.
    texts: Option<artifact::Completions>,
    /// What others have answered, one answer to each prompt at least, from within which `reset_share` of the completions begin.
    resets: Option<artifact::Completions>,
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
    /// The critic after the last iteration.
    critic: Out<artifact::RewardModel>,
    /// Numbers of every iteration.
    curve: Out<artifact::Metrics>,
    /// Some of its completions, to be read: `samples_every` says of which iterations, and the column `iteration` of which one.
    samples: Out<artifact::Rollouts>,
});

impl Stage for Ppo {
    const KIND: &'static str = "policy.ppo";
    const REVISION: u32 = 2;
    const LOOKS: bool = true;
    const DOC: &'static str = "Learn on-line from rewards with a critic (PPO).

PPO-max is `reward_scaling: normalised`, `reward_clip: 0.8`, `value_clip: 0.2`, `whiten_advantages: false`, `critic_first` \
above zero, a `critic` from the reward model, and `texts` with `text_weight`. Plain PPO is `kl_coefficient: 0`. With `filter` \
it is PF-PPO (Zhang et al. 2025): advantages are of all samples, and are whitened over those that are kept. With `reset_share` \
it is DR-PO (Chang et al. 2024): what stands before the policy's own tokens is judged with them, so the curve's rewards are of \
mixed texts; `evaluate.policy` begins at the prompt. A completion \
that did not end is judged as if it had: take something off, `reward: score - (1 - ended)` say.

The curve has the mean `reward`, its parts, its deviation and what became of it, `reward_shaped`; `tokens` and `ended`; \
`kl_completion`, the mean of log π/π_ref of a completion, and `kl_coefficient`; `perplexity` of what it says under itself and \
under the reference; means of `value`, `return` and `advantage`; `policy_loss`, `value_loss` and `text_loss`; `entropy`; the \
shares of tokens that clips held; `step_kl`, how far the policy moved from what sampled; and `sampler_gap`. A policy that games \
its reward shows as reward, divergence and length going up together, and perplexity down. The summary has the means over the \
last tenth of the iterations.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let mut rules = OnLineTraining::rules();
        rules.push(within_context("max_new_tokens", "policy"));
        rules.push(rule(
            "`critic_first` is as long as all `iterations`, so the policy would never learn",
            [param("critic_first").above("iterations")],
        ));
        rules.push(rule(
            "`text_weight` is above zero, and no `texts` came in",
            [param("text_weight").above(0), param("inputs.texts").missing()],
        ));
        rules.push(rule(
            "`reset_share` is above zero, and no `resets` came in",
            [param("reset_share").above(0), param("inputs.resets").missing()],
        ));
        rules
    }

    fn advice() -> Vec<Rule> {
        let mut advice = OnLineTraining::advice();
        advice.push(rule(
            "{value_clipped} of the values are held by `value_clip`: the critic cannot follow; raise it, or scale the rewards",
            [param("value_clipped").above(0.5)],
        ));
        advice.push(rule(
            "the steps of an iteration move the policy by {step_kl} nats a token: lower `learning_rate` or `epochs`",
            [param("step_kl").above(0.1)],
        ));
        advice
    }

    fn length() -> Option<Length> {
        Some(OnLineTraining::length())
    }

    fn rehearsal() -> serde_json::Value {
        let mut least = OnLineTraining::rehearsal(2);
        least["critic_first"] = 1.into();
        least
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "policy");
    }

    fn look(params: &Params, _inputs: &Given) -> Result<(), StageError> {
        params.training.rewards.check(false).map(drop)
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let training = &params.training;
        let expression = training.rewards.check(false)?;
        let sizes = training.sizes(params.samples_per_prompt);
        // Also where nothing holds it: how far it went is worth to know.
        let players = Players::open(&inputs.policy, inputs.reference.as_ref(), true, context)?;
        let critic = players.critic(inputs.critic.as_ref(), &inputs.policy, context)?;
        let ready = players.ready("", "prompts", &inputs.prompts, sizes.max_new_tokens, context)?;
        let test = inputs.test.as_ref();
        let test = test.map(|it| players.ready("test_", "test", it, sizes.max_new_tokens, context));
        let test = test.transpose()?;
        let resets = inputs.resets.as_ref().filter(|_| params.reset_share > 0.0);
        let share = params.reset_share;
        let resets = resets.map(|it| Resets::open(&players.policy, it, &ready, share, context));
        let resets = resets.transpose()?;
        let texts = inputs.texts.as_ref().filter(|_| params.text_weight > 0.0);
        let texts = texts.map(|it| players.kept(it, params.text_weight, context)).transpose()?;
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
            critic: Some(&critic),
            prompts: &ready,
            test: test.as_ref(),
            resets: resets.as_ref(),
            world,
            rewards: &training.rewards,
            expression: &expression,
            judges: &judges,
            method: params.method(),
            sizes,
            reading: training.reading(),
        };
        let rate = params.critic_learning_rate.unwrap_or(training.learning_rate);
        let constant = Schedule { peak: rate, decay: Decay::Constant, warmup: 0, steps: 1 };
        let stepper = training.stepper(&sizes).with(training.adam(), constant);
        let mut learner = OnLine::new(setting, stepper, Streams::of(context), texts);
        let learnt = learn(&mut learner, training.iterations, &training.watch, context)?;
        write(&outputs.samples.path, learner.samples())?;
        learner.settle();
        for (name, value) in training.summary(&learnt.curve) {
            context.summary(&name, value);
        }
        players.policy.save(&outputs.model.path)?;
        critic.save(&outputs.critic.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

impl Params {
    fn method(&self) -> Method {
        let surrogate = Surrogate {
            most: self.most_ratio,
            ..Surrogate::clipped(SurrogateLoss::Dapo, self.clip, self.clip)
        };
        let target = self.kl_target.map(|kl| Target { kl, horizon: self.kl_horizon });
        let credit = Credit::Critic { gamma: self.gamma, lambda: self.lambda };
        Method {
            shaping: Shaping {
                scaling: self.reward_scaling,
                clip: self.reward_clip,
                estimator: self.kl_estimator,
                kl: self.kl_coefficient,
                target,
            },
            whiten: self.whiten_advantages,
            advantage_clip: self.advantage_clip,
            value: Some(ValueLoss { weight: self.value_weight, clip: self.value_clip }),
            critic_first: self.critic_first,
            ..self.training.method(credit, surrogate)
        }
    }
}
