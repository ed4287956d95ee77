//! What was sampled from a policy.
//!
//! Samples of one prompt are alike, so estimates are over prompts, not over samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::nn::statistics::{Estimate, Outcomes, mean, mean_of, rate_of};

/// One completion of one prompt. Samples of a prompt follow each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) prompt: String,
    pub(super) completion: String,
    /// Tokens of the completion, the end token included: those that the policy wrote.
    pub(super) tokens: usize,
    /// Says whether it came to an end by itself.
    pub(super) ended: bool,
    /// log p of the completion under the policy itself.
    pub(super) log_prob: f64,
    /// log p of the completion under what it was drawn from: the policy after penalty, temperature and
    /// filters. 0 where the most likely tokens were taken.
    pub(super) sampling_log_prob: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) true_reward: Option<f64>,
    /// From the reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    /// Nats from what it was drawn from to the reference, summed over the completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kl: Option<f64>,
    /// Where it is a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) conversation: Option<Conversation>,
}

/// What was talked with an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conversation {
    /// How often the policy spoke.
    pub(super) turns: usize,
    /// The last thing that it said.
    pub(super) reply: String,
    /// What it was given for all of it.
    pub(super) reward: f64,
}

impl Sample {
    /// What rewards are of: the completion, or the last thing that was said.
    pub(super) fn reply(&self) -> &str {
        self.conversation.as_ref().map_or(&self.completion, |it| &it.reply)
    }
}

/// Which of the two rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reward {
    /// The reward that made the data.
    TrueReward,
    /// The reward model's.
    Score,
}

impl Reward {
    pub(super) const BOTH: [Self; 2] = [Self::TrueReward, Self::Score];

    pub(super) fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::TrueReward => sample.true_reward,
            Self::Score => sample.score,
        }
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::TrueReward => "True reward",
            Self::Score => "Reward-model score",
        }
    }

    /// What tables call it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::TrueReward => "true reward",
            Self::Score => "reward-model score",
        }
    }
}

pub(super) fn by_prompt(samples: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    samples.chunk_by(|a, b| a.prompt == b.prompt)
}

/// The mean of `value` over prompts. None if any sample lacks it.
pub(super) fn mean_over_prompts(
    samples: &[Sample],
    value: impl Fn(&Sample) -> Option<f64>,
) -> Option<Estimate> {
    let of_prompt = |samples: &[Sample]| {
        let values: Option<Vec<f64>> = samples.iter().map(&value).collect();
        values.map(|values| mean(&values))
    };
    mean_of(&by_prompt(samples).map(of_prompt).collect::<Option<Vec<_>>>()?)
}

/// The same of a value from 0 to 1 that says how often something is so.
pub(super) fn rate_over_prompts(
    samples: &[Sample],
    value: impl Fn(&Sample) -> Option<f64>,
) -> Option<Estimate> {
    let of_prompt = |samples: &[Sample]| {
        let values: Option<Vec<f64>> = samples.iter().map(&value).collect();
        values.map(|values| Outcomes { sum: values.iter().sum(), count: values.len() as f64 })
    };
    rate_of(&by_prompt(samples).map(of_prompt).collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::evaluate) fn sample(prompt: &str, true_reward: f64) -> Sample {
        Sample {
            prompt: prompt.to_owned(),
            completion: String::new(),
            tokens: 3,
            ended: true,
            log_prob: -1.0,
            sampling_log_prob: -1.0,
            true_reward: Some(true_reward),
            score: None,
            kl: None,
            conversation: None,
        }
    }

    #[test]
    fn an_estimate_is_over_prompts() {
        let samples = [sample("a", 1.0), sample("a", 3.0), sample("b", 4.0)];
        let found = mean_over_prompts(&samples, |sample| sample.true_reward);
        assert_eq!(found, mean_of(&[2.0, 4.0]));
        assert_eq!(mean_over_prompts(&samples, |sample| sample.score), None);
        let found = rate_over_prompts(&samples, |sample| Some(f64::from(sample.prompt == "a")));
        let [a, b] = [(2.0, 2.0), (0.0, 1.0)].map(|(sum, count)| Outcomes { sum, count });
        assert_eq!(found, rate_of(&[a, b]));
    }
}
