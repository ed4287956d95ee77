//! How a policy is trained on-line, whatever the method: kinds flatten this into their own parameters.

use std::collections::BTreeSet;

use gradus_protocol::catalog::{Length, Rule};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    credit::Credit,
    method::{Method, Reading, Sizes},
    shaping::Shaping,
    surrogate::PolicyLoss,
};
use crate::{
    environment::settings::Environment,
    nn::{
        adamw::AdamSettings,
        curve::Point,
        schedule::{Decay, Schedule},
        statistics::mean,
        stepper::Stepper,
        watch::Watch,
    },
    reward::sources::Rewards,
    rollout::filtering::{Choice, Strategy},
    rules::{param, rule},
};

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OnLineTraining {
    #[serde(flatten)]
    pub(super) rewards: Rewards,
    /// Whom the policy talks to. By default to nobody: a completion is all that it says.
    #[serde(default)]
    pub(super) environment: Option<Environment>,
    /// How often it samples and learns from what it sampled.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) iterations: usize,
    /// Prompts of an iteration.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1))]
    prompts_per_iteration: usize,
    /// Tokens after which a completion, or a reply to the environment, is cut.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1))]
    pub(super) max_new_tokens: usize,
    /// By which logits are divided, when it samples and when it learns alike.
    #[serde(default = "one")]
    #[schemars(range(min = 0.01, max = 100.0))]
    temperature: f64,
    /// The largest step size of the optimiser, Adam with decoupled decay.
    #[schemars(range(min = 0.0))]
    pub(super) learning_rate: f64,
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
    /// What a nat of entropy is worth, at every token: an exploration bonus.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    entropy_weight: f64,
    /// Which completions of a prompt are learnt from, by rank of their rewards (policy filtration). All are sampled, judged
    /// and compared before.
    #[serde(default = "all")]
    filter: Strategy,
    /// Of `filter: random_k`: how many of each prompt.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    filter_keep: usize,
    /// Of `filter: top`, `top_random` and `top_bottom`: the reward above which all are kept.
    #[serde(default)]
    filter_high: f64,
    /// Of `filter: top_bottom`: the reward below which all are kept.
    #[serde(default)]
    filter_low: f64,
    /// Of the first iteration and of every so many-th after it some completions are kept to be read; 0 keeps none.
    #[serde(default = "ten")]
    samples_every: usize,
    /// How many of such an iteration.
    #[serde(default = "eight")]
    samples_kept: usize,
    /// The iteration ends its steps once the policy has moved so far from the one that sampled, in nats a token.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    most_step_kl: Option<f64>,
    /// How much of an averaged policy stays at every step, 0.99 say; it is the average that comes out.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    average: Option<f64>,
    #[serde(flatten)]
    pub(super) watch: Watch,
}

fn sixteen() -> usize {
    16
}
fn ten() -> usize {
    10
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
fn two() -> usize {
    2
}
fn one() -> f64 {
    1.0
}
fn constant() -> Decay {
    Decay::Constant
}
fn all() -> Strategy {
    Strategy::None
}

impl OnLineTraining {
    pub(super) fn rules() -> Vec<Rule> {
        let mut rules = Watch::rules();
        rules.push(rule(
            "the averaged policy comes out, so none measures best: take out `average` or `keep`",
            [param("average").given(), param("keep").is(["best"])],
        ));
        rules.push(rule(
            "`filter_low` is above `filter_high`, so everything would be kept: swap them",
            [param("filter_low").above("filter_high"), param("filter").is(["top_bottom"])],
        ));
        rules
    }

    /// What says how long it is, and when a longer one begins with what a shorter one did.
    pub(super) fn length() -> Length {
        Length {
            params: vec!["iterations".to_owned()],
            extends_when: [("schedule".to_owned(), json!(Decay::Constant))].into(),
        }
    }

    /// The least that trains, with so many samples of each prompt.
    pub(super) fn rehearsal(samples: usize) -> serde_json::Value {
        json!({
            "iterations": 2, "prompts_per_iteration": 4, "samples_per_prompt": samples, "max_new_tokens": 8,
            "warmup_steps": 0,
        })
    }

    /// Advice on what any of them comes to.
    pub(super) fn advice() -> Vec<Rule> {
        vec![
            rule(
                "only {ended} of the completions ended by themselves: raise `max_new_tokens`, or reward `ended`",
                [param("ended").below(0.5)],
            ),
            rule(
                "the entropy fell to {entropy} nats a token: it explores no more; lower `learning_rate`, or hold it harder to \
                 its reference",
                [param("entropy").below(0.02)],
            ),
            rule(
                "sampler and trainer differ by {sampler_gap} in a log-probability: that is more than rounding",
                [param("sampler_gap").above(0.01)],
            ),
            rule(
                "the divergence from the reference is {kl_completion} nats, below zero: too few samples to tell, or the \
                 reference is not where the policy began",
                [param("kl_completion").below(-0.5)],
            ),
            rule(
                "completions are {tokens_growth} times as long as at first: if that is not what is wanted, take something off for \
                 `tokens`, or divide losses as if all were as long (`loss: dr_grpo`)",
                [param("tokens_growth").above(1.5)],
            ),
            rule(
                "rewards have risen by {reward_rise} of their deviations: a reward model judges texts by now that are unlike those \
                 it has learnt from; read `samples`, hold the policy harder to its reference, or stop earlier",
                [param("reward_rise").above(3)],
            ),
            rule(
                "at {clipped_high} of the tokens the clip stops the policy from becoming surer: lower `learning_rate` or `epochs`",
                [param("clipped_high").above(0.3)],
            ),
        ]
    }

    /// What a kind makes of it: rewards as they are, credit and loss, and nothing else.
    pub(super) fn method(&self, credit: Credit, loss: impl PolicyLoss + 'static) -> Method {
        Method {
            shaping: Shaping::NONE,
            credit,
            rival: None,
            reference_answers: false,
            filter: self.filter(),
            modulation: None,
            whiten: false,
            advantage_clip: None,
            loss: Box::new(loss),
            entropy_weight: self.entropy_weight,
            value: None,
            critic_first: 0,
            most_step_kl: self.most_step_kl,
            average: self.average,
        }
    }

    /// Which completions are kept to be read.
    pub(super) fn reading(&self) -> Reading {
        Reading { every: self.samples_every, count: self.samples_kept }
    }

    pub(super) fn filter(&self) -> Option<Choice> {
        let choice = Choice {
            strategy: self.filter,
            keep: self.filter_keep,
            high: self.filter_high,
            low: self.filter_low,
        };
        (self.filter != Strategy::None).then_some(choice)
    }

    pub(super) fn sizes(&self, samples: usize) -> Sizes {
        let mut sizes = Sizes {
            prompts: self.prompts_per_iteration,
            samples,
            max_new_tokens: self.max_new_tokens,
            turns: self.environment.as_ref().map_or(1, Environment::turns),
            temperature: self.temperature,
            epochs: self.epochs,
            minibatch: 1,
            micro_batch: 1,
        };
        let all = sizes.kept(self.filter());
        sizes.minibatch = self.minibatch.unwrap_or(all).min(all);
        sizes.micro_batch = self.micro_batch.unwrap_or(sizes.minibatch);
        sizes
    }

    /// What the stage says of a curve.
    pub(super) fn summary(&self, curve: &[Point]) -> Vec<(String, f64)> {
        summary(curve, self.rewards.is_learnt())
    }

    /// The optimiser of the policy, and the schedule of all its steps.
    pub(super) fn stepper(&self, sizes: &Sizes) -> Stepper {
        Stepper::new(self.adam(), self.schedule(sizes), self.max_grad_norm)
    }

    pub(super) fn adam(&self) -> AdamSettings {
        AdamSettings { weight_decay: self.weight_decay, ..AdamSettings::default() }
    }

    pub(super) fn schedule(&self, sizes: &Sizes) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            decay: self.schedule,
            warmup: self.warmup_steps,
            steps: sizes.steps(self.filter()) * self.iterations,
        }
    }
}

/// Means over the last tenth of the iterations, and how far that is from the first: in length, and where a reward is `learnt` in
/// deviations of the first's rewards.
fn summary(curve: &[Point], learnt: bool) -> Vec<(String, f64)> {
    let last = &curve[curve.len() - curve.len().div_ceil(10)..];
    let names: BTreeSet<&String> = last.iter().flat_map(|point| point.metrics.keys()).collect();
    let mean = |name: &str| {
        let values = last.iter().filter_map(|point| point.metrics.get(name)?.as_f64());
        mean(&values.collect::<Vec<_>>())
    };
    let mut all: Vec<(String, f64)> =
        names.into_iter().map(|name| (name.clone(), mean(name))).collect();
    let first = |name: &str| curve.first()?.metrics.get(name)?.as_f64();
    if let Some(tokens) = first("tokens").filter(|it| *it > 0.0) {
        all.push(("tokens_growth".to_owned(), mean("tokens") / tokens));
    }
    let deviation = first("reward_deviation").filter(|it| learnt && *it > 0.0);
    if let (Some(reward), Some(by)) = (first("reward"), deviation) {
        all.push(("reward_rise".to_owned(), (mean("reward") - reward) / by));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_the_end_and_of_how_far_that_is_from_the_beginning() {
        let point = |step: usize| {
            let metrics = json!({
                "tokens": 4 + step, "reward": step, "reward_deviation": 2.0, "rare": if step == 19 { 7 } else { 0 },
            });
            let mut metrics = metrics.as_object().unwrap().clone();
            if step == 18 {
                metrics.remove("rare");
            }
            Point { step, loss: 0.0, grad_norm: 0.0, learning_rate: 0.0, metrics }
        };
        let curve: Vec<Point> = (0..20).map(point).collect();
        let found: std::collections::BTreeMap<_, _> = summary(&curve, true).into_iter().collect();
        // The last two of twenty; what only one of them has is its own.
        for (name, by_hand) in [
            ("tokens", 22.5),
            ("reward", 18.5),
            ("rare", 7.0),
            ("tokens_growth", 22.5 / 4.0),
            ("reward_rise", 18.5 / 2.0),
        ] {
            assert!((found[name] - by_hand).abs() < 1e-12, "{name}: {found:?}");
        }
    }
}
