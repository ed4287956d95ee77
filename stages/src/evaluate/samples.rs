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

    /// The input of `evaluate.policy` that it needs.
    pub(super) fn port(self) -> &'static str {
        match self {
            Self::TrueReward => "true_reward",
            Self::Score => "reward_model",
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

/// The completions of each prompt.
pub(super) fn completions(samples: &[Sample]) -> Vec<Vec<&str>> {
    fn texts(samples: &[Sample]) -> Vec<&str> {
        samples.iter().map(|it| it.completion.as_str()).collect()
    }
    by_prompt(samples).map(texts).collect()
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

/// Whether a sample is right, where its true reward, or else what its environment gave, is 1 or 0.
pub(super) fn is_right(sample: &Sample) -> Option<bool> {
    let given = || sample.conversation.as_ref().map(|it| it.reward);
    sample.true_reward.or_else(given).filter(|it| [0.0, 1.0].contains(it)).map(|it| it > 0.5)
}

/// How often at least one of `k` completions of a prompt is right (pass@k): the mean over prompts of
/// `1 − C(n − c, k) / C(n, k)` of `n` samples with `c` right ones, which is unbiased (Chen et al. 2021, "Evaluating Large Language
/// Models Trained on Code", eq. 1). Its interval is that of a rate over prompts. None where completions are not right or wrong, that is of
/// true reward 1 or 0, or where a prompt has fewer than `k`.
pub(super) fn pass_at(samples: &[Sample], k: usize) -> Option<Estimate> {
    let of_prompt = |samples: &[Sample]| {
        let n = samples.len();
        let right: Vec<bool> = samples.iter().map(is_right).collect::<Option<_>>()?;
        let wrong = right.iter().filter(|it| !**it).count();
        // The share of choices of k in which all are wrong, factor by factor.
        let all_wrong = |i: usize| wrong.saturating_sub(i) as f64 / (n - i) as f64;
        let sum = 1.0 - (0..k).map(all_wrong).product::<f64>();
        Some(Outcomes { sum, count: 1.0 })
    };
    let enough = k > 0 && by_prompt(samples).all(|it| it.len() >= k);
    let prompts: Option<Vec<_>> = enough.then(|| by_prompt(samples).map(of_prompt).collect())?;
    rate_of(&prompts?)
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

    #[test]
    fn one_of_several_completions_is_right_as_often_as_choices_say() {
        let samples = [1.0, 0.0, 0.0, 1.0].map(|reward| sample("1 + 1 =", reward));
        // Of the six pairs of four one is all wrong; of the four triples none.
        for (k, expected) in [(1, 0.5), (2, 5.0 / 6.0), (3, 1.0), (4, 1.0)] {
            let found = pass_at(&samples, k).unwrap();
            assert!((found.value - expected).abs() < 1e-12, "{k}");
            assert_eq!(found.interval, None);
        }
        assert_eq!((pass_at(&samples, 0), pass_at(&samples, 5)), (None, None));
        assert_eq!(pass_at(&[sample("a", 0.5), sample("a", 1.0)], 1), None);
    }

    #[test]
    fn pass_at_one_is_how_often_completions_are_right() {
        let of = |prompt: &'static str, right: f64| {
            [0.0, 1.0, 2.0, 3.0].map(|it| sample(prompt, f64::from(it < right)))
        };
        let samples = [of("a", 1.0), of("b", 4.0), of("c", 0.0)].concat();
        let [one, rate] = [pass_at(&samples, 1), rate_over_prompts(&samples, |it| it.true_reward)]
            .map(|it| it.unwrap());
        assert!((one.value - rate.value).abs() < 1e-12);
        let [one, rate] = [one, rate].map(|it| it.interval.unwrap());
        assert!((one.low - rate.low).abs() < 1e-12 && (one.high - rate.high).abs() < 1e-12);
        // Where no prompt fails, that is not for certain.
        let all = [of("a", 4.0), of("b", 4.0), of("c", 4.0)].concat();
        let sure = pass_at(&all, 4).unwrap();
        assert!(sure.value > 1.0 - 1e-12 && sure.interval.unwrap().low < 0.7);
    }
}
