//! `data.by_pass_rate`: prompts that a policy neither always solves nor never: what is left to learn from, where completions of one
//! prompt are compared with each other.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::{Fields, Format, PromptRow, Row},
        dataset_folder::write_all,
    },
    context::Context,
    error::StageError,
    port::{Out, ports},
    rollout::trajectories::{Trajectory, groups, read},
    rules::{param, rule},
    stage::Stage,
};

/// Choose prompts by how often they are solved.
pub(crate) struct ByPassRate;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The reward by which a completion is a solution; `reward` is what all come to.
    #[serde(default = "reward")]
    reward: String,
    /// From this reward on a completion is a solution.
    #[serde(default = "half")]
    threshold: f64,
    /// The least share of a prompt's completions that are solutions.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    min: f64,
    /// The largest.
    #[serde(default = "nine_tenths")]
    #[schemars(range(min = 0.0, max = 1.0))]
    max: f64,
}

fn reward() -> String {
    "reward".to_owned()
}
fn half() -> f64 {
    0.5
}
fn tenth() -> f64 {
    0.1
}
fn nine_tenths() -> f64 {
    0.9
}

ports!(Inputs {
    /// Judged completions, several of each prompt.
    rollouts: artifact::Rollouts,
});
ports!(Outputs {
    /// The prompts that stay, with the other columns of their rows and `pass_rate`.
    prompts: Out<artifact::Prompts>,
});

impl Stage for ByPassRate {
    const KIND: &'static str = "data.by_pass_rate";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Keep the prompts that are solved between `min` and `max` of the time.

What is always solved, or never, teaches nothing to who compares completions of one prompt. `pass_rate` is the mean over all prompts, `too_easy` and \
`too_hard` are the shares that are left out.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![rule(
            "`min` is above `max`, so no prompt stays: swap them",
            [param("min").above("max")],
        )]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let all = read("rollouts", &inputs.rollouts.source)?;
        let (mut rows, mut easy, mut hard, mut rates) = (Vec::new(), 0, 0, Vec::new());
        for group in groups(&all) {
            let own: Vec<&Trajectory> = group.iter().map(|at| &all[*at]).collect();
            let rate = params.rate(&own)?;
            rates.push(rate);
            easy += usize::from(rate > params.max);
            hard += usize::from(rate < params.min);
            if (params.min..=params.max).contains(&rate) {
                rows.push(row(own[0], rate));
            }
        }
        let count = rates.len().max(1) as f64;
        context.summary("prompts", rows.len() as f64);
        context.summary("pass_rate", rates.iter().sum::<f64>() / count);
        context.summary("too_easy", easy as f64 / count);
        context.summary("too_hard", hard as f64 / count);
        if rows.is_empty() {
            return Err(StageError::refused(format!(
                "of {} prompts {easy} are solved more often than `max` and {hard} less often than `min`: none stays; widen them, or \
                 sample more of each",
                rates.len()
            )));
        }
        write_all(&outputs.prompts.path, Format::Prompt, &rows)
    }
}

impl Params {
    /// The share of completions that are solutions.
    fn rate(&self, all: &[&Trajectory]) -> Result<f64, StageError> {
        let solved = |it: &&Trajectory| {
            let value = match self.reward.as_str() {
                "reward" => it.reward,
                name => it.rewards.get(name).copied(),
            };
            let value = value.ok_or_else(|| {
                StageError::refused(format!(
                    "a completion of {:?} has no reward `{}`: bring the rollouts through `reward.judge`",
                    it.prompt, self.reward
                ))
            })?;
            Ok(f64::from(value >= self.threshold))
        };
        let solved: Vec<f64> = all.iter().map(solved).collect::<Result<_, StageError>>()?;
        Ok(solved.iter().sum::<f64>() / solved.len().max(1) as f64)
    }
}

fn row(it: &Trajectory, rate: f64) -> Row {
    let mut extra = it.extra.clone();
    extra.insert("pass_rate".to_owned(), rate.into());
    Row { fields: Fields::Prompt(PromptRow { prompt: it.prompt.clone() }), extra }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::trajectories::tests::trajectory;

    #[test]
    fn a_rate_is_the_share_of_solutions() {
        let params =
            |given: serde_json::Value| -> Params { serde_json::from_value(given).unwrap() };
        let all = [1.0, 0.0, 0.5, 0.25].map(|reward| trajectory(0, 0, reward));
        let all: Vec<&Trajectory> = all.iter().collect();
        let rate = |given| params(given).rate(&all);
        for (given, by_hand) in
            [(serde_json::json!({}), 0.5), (serde_json::json!({ "threshold": 0.25 }), 0.75)]
        {
            assert!((rate(given).unwrap() - by_hand).abs() < 1e-12);
        }
        let error = rate(serde_json::json!({ "reward": "right" })).unwrap_err().to_string();
        assert!(error.contains("has no reward `right`"), "{error}");
        let kept = row(all[0], 0.5);
        assert_eq!(
            (kept.prompt(), kept.extra["pass_rate"].as_f64()),
            (all[0].prompt.as_str(), Some(0.5))
        );
    }
}
