//! `rollout.filter`: policy filtration over rollouts (Zhang et al. 2025), and how well the rewards that are left agree with a
//! true score, by which a strategy is chosen before anything is trained.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    filtering::{BINS, Choice, Strategy, r_squared},
    trajectories::{Trajectory, groups, read, write},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    port::{Out, ports},
    rules::{param, rule},
    stage::Stage,
};

/// Keep some rollouts.
pub(crate) struct Filter;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Who is kept.
    strategy: Strategy,
    /// Of `random_k`: how many of each prompt.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    keep: usize,
    /// Of `top`, `top_random` and `top_bottom`: the reward above which all are kept.
    #[serde(default)]
    high: f64,
    /// Of `top_bottom`: the reward below which all are kept.
    #[serde(default)]
    low: f64,
    /// The name of a true score among the rewards, to hold the rewards that are left against.
    #[serde(default)]
    truth: Option<String>,
}

fn two() -> usize {
    2
}

ports!(Inputs {
    /// Rollouts with a reward.
    rollouts: artifact::Rollouts,
});
ports!(Outputs {
    /// Those that are kept, some perhaps twice.
    rollouts: Out<artifact::Rollouts>,
    /// The stage's numbers as a JSON object, for `evaluate.claim` to hold them against others.
    numbers: Out<artifact::File>,
});

impl Stage for Filter {
    const KIND: &'static str = "rollout.filter";
    const REVISION: u32 = 2;
    const USES_DEVICE: bool = false;
    const DOC: &'static str = "Keep those rollouts whose rewards are to be trusted (policy filtration).

With `truth`, `r_squared` is that of the line through the mean rewards and true scores of 20 bins of equal counts, \
`r_squared_single` that of single samples, and the same with `_before` of all rollouts: the strategy with the highest \
one on rollouts of a first policy is the one to train with.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "`low` is above `high`, so everything would be kept: swap them",
            [param("low").above("high"), param("strategy").is(["top_bottom"])],
        )]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let all = read("rollouts", &inputs.rollouts.source)?;
        let rewards = all.iter().map(Trajectory::judged).collect::<Result<Vec<f64>, _>>()?;
        let Params { strategy, keep, high, low, truth } = params;
        let choice = Choice { strategy, keep, high, low };
        let mut streams = context.stream("filter");
        let mut by_prompt = groups(&all);
        // What is drawn for a prompt hangs on nothing but its number, nor does the order of rows matter.
        by_prompt.sort_by_key(|group| all[group[0]].tokens.prompt);
        let mut kept = Vec::new();
        for mut group in by_prompt {
            group.sort_by_key(|at| all[*at].tokens.sample);
            let mut draw = streams.at(all[group[0]].tokens.prompt).generator();
            let own: Vec<f64> = group.iter().map(|at| rewards[*at]).collect();
            kept.extend(choice.of(&own, &mut draw).into_iter().map(|i| group[i]));
        }
        if kept.is_empty() {
            return Err(StageError::refused(
                "no rollout is left: lower `high`, or choose another `strategy`",
            ));
        }
        let mean = |of: &[usize]| of.iter().map(|at| rewards[*at]).sum::<f64>() / of.len() as f64;
        let before: Vec<usize> = (0..all.len()).collect();
        let mut numbers = Numbers::new();
        let mut put = |name: &str, value: f64| numbers.insert(name.to_owned(), value);
        put("rows_before", all.len() as f64);
        put("rows", kept.len() as f64);
        put("reward_before", mean(&before));
        put("reward", mean(&kept));
        if let Some(name) = &truth {
            for (end, part) in [("_before", &before), ("", &kept)] {
                let samples = scored(&all, &rewards, part, name)?;
                let truth = samples.iter().map(|it| it.1).sum::<f64>() / samples.len() as f64;
                put(&format!("truth{end}"), truth);
                for (word, bins) in [("r_squared", Some(BINS)), ("r_squared_single", None)] {
                    if let Some(found) = r_squared(&samples, bins) {
                        put(&format!("{word}{end}"), found);
                    }
                }
            }
        }
        for (name, value) in &numbers {
            context.summary(name, *value);
        }
        let json = serde_json::to_string_pretty(&numbers).expect("numbers are JSON") + "\n";
        let path = &outputs.numbers.path;
        std::fs::write(path, json).map_err(StageError::file(path))?;
        let kept: Vec<Trajectory> = kept.into_iter().map(|at| all[at].clone()).collect();
        write(&outputs.rollouts.path, &kept)
    }
}

/// By their names.
type Numbers = std::collections::BTreeMap<String, f64>;

/// Rewards beside the true scores of that name.
fn scored(
    all: &[Trajectory],
    rewards: &[f64],
    part: &[usize],
    name: &str,
) -> Result<Vec<(f64, f64)>, StageError> {
    let known = || all[0].rewards.keys().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    let score = |at: &usize| {
        let truth = all[*at].rewards.get(name).copied();
        let truth = truth.ok_or_else(|| {
            StageError::refused(format!("`truth` is `{name}`, and the rewards are {}", known()))
        })?;
        Ok((rewards[*at], truth))
    };
    part.iter().map(score).collect()
}
