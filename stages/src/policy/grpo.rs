//! `policy.grpo`: group relative policy optimisation (Shao et al. 2024, "`DeepSeekMath`", section 4.1) and its relatives.
//!
//! A completion is better or worse than others of the same prompt, so no critic is needed. Relatives differ in how they
//! normalise advantages and losses, and in how they clip.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    advantages::Term,
    online::{Method, OnLine, Setting, Sizes, Streams},
    surrogate::{Level, Surrogate, SurrogateLoss},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        adamw::AdamSettings,
        config::Head,
        curve::{Point, write_curve},
        learner::learn,
        pretrained::Pretrained,
        schedule::{Decay, Schedule},
        stepper::Stepper,
    },
    port::{Out, ports},
    prepare::examples::prompts,
    reward::sources::{Judges, Rewards},
    rollout::sampler::{Asked, Ready},
    rules::{param, rule, same_context, within_context},
    stage::{Given, Stage},
};

/// Group relative policy optimisation.
pub(crate) struct Grpo;

/// What the advantage of a completion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Advantage {
    /// Less the mean of its group, divided by the deviation in its group.
    Group,
    /// Less the mean of its group, divided by the deviation of all rewards.
    Batch,
    /// Less the mean of its group (Dr. GRPO).
    Mean,
    /// Less the mean of the others in its group (RLOO).
    LeaveOneOut,
}

impl Advantage {
    fn terms(self) -> Vec<Term> {
        match self {
            Self::Group => vec![Term::GroupMean, Term::GroupDeviation],
            Self::Batch => vec![Term::GroupMean, Term::BatchDeviation],
            Self::Mean => vec![Term::GroupMean],
            Self::LeaveOneOut => vec![Term::LeaveOneOut],
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    rewards: Rewards,
    /// How often it samples and learns from what it sampled.
    #[schemars(range(min = 1, max = 10_000_000))]
    iterations: usize,
    /// Prompts of an iteration.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1))]
    prompts_per_iteration: usize,
    /// Completions of each prompt: the group.
    #[serde(default = "eight")]
    #[schemars(range(min = 2))]
    samples_per_prompt: usize,
    /// Tokens after which a completion is cut.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1))]
    max_new_tokens: usize,
    /// The largest step size of the optimiser, Adam with decoupled decay.
    #[schemars(range(min = 0.0))]
    learning_rate: f64,
    /// How the step size falls over the steps of all iterations.
    #[serde(default = "constant")]
    schedule: Decay,
    /// Steps over which the step size climbs to `learning_rate`.
    #[serde(default)]
    warmup_steps: usize,
    /// Pull of the weights towards zero; norms and biases are left out.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// Gradients longer than this are shortened to it; zero leaves them.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    max_grad_norm: f64,
    /// How often each completion is learnt from before others are sampled.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    epochs: usize,
    /// Completions of one step of the optimiser; all of an iteration by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    minibatch: Option<usize>,
    /// Completions that are in memory at once; a minibatch by default. Results do not depend on it beyond rounding.
    #[serde(default)]
    #[schemars(range(min = 1))]
    micro_batch: Option<usize>,
    /// What the advantage of a completion is.
    #[serde(default = "by_group")]
    advantage: Advantage,
    /// What a token loses, and what losses are divided by.
    #[serde(default = "grpo")]
    loss: SurrogateLoss,
    /// What the ratio to the policy that sampled is of; `sequence` makes it GSPO.
    #[serde(default)]
    ratio: Level,
    /// Ratios count down to 1 less this.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_low: f64,
    /// Ratios count up to 1 and this; with `loss: cispo` up to this itself.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0))]
    clip_high: f64,
    /// The most that a ratio counts where it is not clipped, that of a bad completion that has become likely say.
    #[serde(default)]
    most_ratio: Option<f64>,
    /// How strongly the policy is held to the reference, by the KL divergence (k3) at every token.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    beta: f64,
    /// Whether the KL divergence is weighed by the ratio: then it is that of the policy as it is now, where several steps are
    /// taken on what it sampled before.
    #[serde(default)]
    corrected_kl: bool,
}

fn sixteen() -> usize {
    16
}
fn eight() -> usize {
    8
}
fn sixty_four() -> usize {
    64
}
fn once() -> usize {
    1
}
fn one() -> f64 {
    1.0
}
fn fifth() -> f64 {
    0.2
}
fn constant() -> Decay {
    Decay::Constant
}
fn by_group() -> Advantage {
    Advantage::Group
}
fn grpo() -> SurrogateLoss {
    SurrogateLoss::Grpo
}

ports!(Inputs {
    /// Who learns.
    policy: artifact::Model,
    /// What it answers. Further columns, an answer say, are there for verifiers.
    prompts: artifact::Prompts,
    /// What `beta` holds it to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// For rewards `from: reward_model`.
    reward_model: Option<artifact::RewardModel>,
    /// For rewards `from: true_reward`.
    true_reward: Option<artifact::TrueReward>,
});
ports!(Outputs {
    /// The policy after the last iteration.
    model: Out<artifact::Model>,
    /// Numbers of every iteration.
    curve: Out<artifact::Metrics>,
});

impl Stage for Grpo {
    const KIND: &'static str = "policy.grpo";
    const REVISION: u32 = 1;
    const LOOKS: bool = true;
    const DOC: &'static str = "Learn on-line from rewards of groups of completions (GRPO and relatives).

An iteration samples from the policy itself, judges as `reward.judge` does, and takes its steps. Dr. GRPO is \
`advantage: mean` with `loss: dr_grpo`; DAPO `loss: dapo` with `clip_high: 0.28`; GSPO `ratio: sequence` with `clip_low: \
0.0003`, `clip_high: 0.0004`; CISPO `loss: cispo` with `clip_high: 5`; RLOO `advantage: leave_one_out` with `loss: dr_grpo`. \
The curve has the mean `reward` and each of its parts, `tokens` and `ended` of completions, `entropy` and `kl` per token, the \
shares of tokens whose gradient the clip stopped, `groups_alike`, the share of groups that teach nothing, and \
`sampler_gap`, by how much sampler and trainer differ in a log-probability before the first step. The summary has their \
means over the last tenth of the iterations.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![
            within_context("max_new_tokens", "policy"),
            rule(
                "`cispo` counts ratios up to `clip_high` itself, so 1 is the least that makes sense",
                [param("loss").is(["cispo"]), param("clip_high").below(1)],
            ),
        ]
    }

    fn advice() -> Vec<Rule> {
        vec![
            rule(
                "in {groups_alike} of the groups all rewards were alike, and taught nothing: take harder or easier prompts, or \
                 more samples of each",
                [param("groups_alike").above(0.7)],
            ),
            rule(
                "only {ended} of the completions ended by themselves: raise `max_new_tokens`, or reward `ended`",
                [param("ended").below(0.5)],
            ),
            rule(
                "the policy is {kl} nats a token from its reference, and running away: raise `beta`, or lower \
                 `learning_rate`",
                [param("kl").above(1)],
            ),
            rule(
                "the entropy fell to {entropy} nats a token: it explores no more; lower `learning_rate`, or raise `clip_high`",
                [param("entropy").below(0.02)],
            ),
            rule(
                "sampler and trainer differ by {sampler_gap} in a log-probability: that is more than rounding",
                [param("sampler_gap").above(0.01)],
            ),
        ]
    }

    fn length() -> Option<Length> {
        Some(Length {
            params: vec!["iterations".to_owned()],
            extends_when: [("schedule".to_owned(), json!(Decay::Constant))].into(),
        })
    }

    fn rehearsal() -> serde_json::Value {
        json!({ "iterations": 2, "prompts_per_iteration": 4, "samples_per_prompt": 2, "max_new_tokens": 8, "warmup_steps": 0 })
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "policy");
    }

    fn look(params: &Params, _inputs: &Given) -> Result<(), StageError> {
        params.rewards.check().map(drop)
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let expression = params.rewards.check()?;
        let (head, device) = (Head::LanguageModel, context.device);
        let policy = Pretrained::open("policy", &inputs.policy.source, head, device)?;
        let source = inputs.reference.as_ref().unwrap_or(&inputs.policy);
        let reference = (params.beta > 0.0)
            .then(|| Pretrained::open("reference", &source.source, head, device))
            .transpose()?;
        if let Some(reference) = &reference {
            reference.same_tokens(&policy)?;
        }
        let prompts = Asked::each(prompts("prompts", &inputs.prompts.source, None)?);
        let ready = Ready::new(&policy, prompts, params.max_new_tokens, context)?;
        let (known, model) = (inputs.true_reward.as_ref(), inputs.reward_model.as_ref());
        let judges = Judges::open(known, model, false, context)?;
        let sizes = params.sizes();
        let streams = Streams {
            orders: context.stream("order"),
            samples: context.stream("samples"),
            minibatches: context.stream("minibatches"),
        };
        let policy = policy.trainable();
        let setting = Setting {
            policy: &policy,
            reference: reference.as_ref().map(|it| &it.model),
            prompts: &ready,
            rewards: &params.rewards,
            expression: &expression,
            judges: &judges,
            method: params.method(),
            sizes,
        };
        let stepper = params.stepper(sizes.steps() * params.iterations);
        let mut learner = OnLine::new(setting, stepper, streams);
        let curve = learn(&mut learner, params.iterations, context)?;
        summarise(&curve, context);
        policy.save(&outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}

impl Params {
    fn sizes(&self) -> Sizes {
        let all = self.prompts_per_iteration * self.samples_per_prompt;
        let minibatch = self.minibatch.unwrap_or(all).min(all);
        Sizes {
            prompts: self.prompts_per_iteration,
            samples: self.samples_per_prompt,
            max_new_tokens: self.max_new_tokens,
            epochs: self.epochs,
            minibatch,
            micro_batch: self.micro_batch.unwrap_or(minibatch),
        }
    }

    fn method(&self) -> Method {
        let surrogate = Surrogate {
            loss: self.loss,
            level: self.ratio,
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            most: self.most_ratio,
            beta: self.beta,
            corrected: self.corrected_kl,
        };
        Method { terms: self.advantage.terms(), surrogate }
    }

    fn stepper(&self, steps: usize) -> Stepper {
        let adam = AdamSettings { weight_decay: self.weight_decay, ..AdamSettings::default() };
        let (peak, decay, warmup) = (self.learning_rate, self.schedule, self.warmup_steps);
        Stepper::new(adam, Schedule { peak, decay, warmup, steps }, self.max_grad_norm)
    }
}

/// Means over the last tenth of the iterations.
fn summarise(curve: &[Point], context: &mut Context) {
    let last = &curve[curve.len() - curve.len().div_ceil(10)..];
    let names = last.first().map(|point| point.metrics.keys().cloned().collect::<Vec<_>>());
    for name in names.unwrap_or_default() {
        let values = last.iter().filter_map(|point| point.metrics.get(&name)?.as_f64());
        let values: Vec<f64> = values.collect();
        context.summary(&name, values.iter().sum::<f64>() / values.len().max(1) as f64);
    }
}
