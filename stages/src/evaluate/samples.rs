//! What was sampled from a policy, and what the samples say about it.
//!
//! Samples of one prompt are alike, so errors and intervals are over prompts, not over samples.

use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::{
    error::StageError,
    nn::{
        batch::Example,
        batches,
        decoder::Model,
        likelihood::learnt,
        logprob::divergence,
        statistics::{Interval, bootstrap, mean},
    },
};

/// One completion of one prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) prompt: String,
    pub(crate) completion: String,
    /// Tokens of the completion, the end token included.
    pub(crate) tokens: usize,
    /// Says whether it came to an end by itself.
    pub(crate) ended: bool,
    /// log p of the completion under the policy itself.
    pub(crate) log_prob: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) true_reward: Option<f64>,
    /// From the reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<f64>,
    /// Nats from the policy to its reference, summed over the completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kl: Option<f64>,
}

impl Sample {
    /// The true reward where it is known, else the reward model's score.
    pub(crate) fn reward(&self) -> Option<f64> {
        self.true_reward.or(self.score)
    }
}

/// A mean over prompts and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) sem: f64,
}

/// The mean of `value` over samples; samples of one prompt follow each other. None if any lacks it.
pub(crate) fn estimate(
    samples: &[Sample],
    value: impl Fn(&Sample) -> Option<f64>,
) -> Option<Estimate> {
    let groups = by_prompt(samples);
    let group = |samples: &&[Sample]| {
        let values: Option<Vec<f64>> = samples.iter().map(&value).collect();
        values.map(|values| mean(&values))
    };
    let means: Vec<f64> = groups.iter().map(group).collect::<Option<_>>()?;
    let centre = mean(&means);
    let squares: f64 = means.iter().map(|x| (x - centre).powi(2)).sum();
    let count = means.len() as f64;
    let sem = if means.len() > 1 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
    (!means.is_empty()).then_some(Estimate { mean: centre, sem })
}

fn by_prompt(samples: &[Sample]) -> Vec<&[Sample]> {
    samples.chunk_by(|a, b| a.prompt == b.prompt).collect()
}

/// How often a sample has more reward than one of the baseline's for the same prompt; ties count half.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WinRate {
    pub(crate) rate: f64,
    pub(crate) interval: Interval,
    /// Prompts that both were sampled on.
    pub(crate) prompts: usize,
}

/// Compares every sample with every baseline sample of its prompt. The interval is bootstrapped over
/// prompts. None if they share no prompt with rewards of one kind.
pub(crate) fn win_rate(samples: &[Sample], baseline: &[Sample], seed: u64) -> Option<WinRate> {
    let theirs = by_prompt(baseline);
    let known = |all: &[Sample]| all.iter().all(|sample| sample.true_reward.is_some());
    let reward = if known(samples) && known(baseline) {
        |sample: &Sample| sample.true_reward
    } else {
        |sample: &Sample| sample.score
    };
    let mut rates = Vec::new();
    for ours in by_prompt(samples) {
        let Some(rivals) = theirs.iter().find(|rivals| rivals[0].prompt == ours[0].prompt) else {
            continue;
        };
        let mut wins = Vec::new();
        for sample in ours {
            for rival in *rivals {
                let (ours, theirs) = (reward(sample)?, reward(rival)?);
                wins.push(
                    0.5 + 0.5
                        * (ours - theirs).partial_cmp(&0.0).map_or(0.0, |o| f64::from(o as i8)),
                );
            }
        }
        rates.push(mean(&wins));
    }
    let interval = bootstrap(&rates, seed);
    let prompts = rates.len();
    (prompts > 0).then(|| WinRate { rate: mean(&rates), interval, prompts })
}

/// `Σ_t KL(π(·|x, y_<t) ‖ π_ref(·|x, y_<t))` of each row, over the whole vocabulary at every place.
///
/// Its mean over samples y ~ π estimates the KL divergence between the two as distributions over
/// completions. Unlike the mean of `log π/π_ref` it cannot fall below zero, and it varies less (Amini et
/// al. 2025, eq. 10).
pub(crate) fn sequence_divergences(
    policy: &Model,
    reference: &Model,
    rows: &[Example],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    batches::each(&lengths, report, |part| {
        let bins: Vec<&[Example]> =
            part.iter().map(|row| std::slice::from_ref(&rows[*row])).collect();
        let [ours, theirs] = [policy, reference].map(|model| {
            let (hidden, _) = learnt(model, &bins);
            model.logits(&hidden)
        });
        let tokens = divergence(&ours, &theirs).to_kind(Kind::Double).to_device(tch::Device::Cpu);
        let tokens = Vec::<f64>::try_from(tokens)?;
        Ok(batches::sums(&tokens, part.iter().map(|row| rows[*row].labels())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    fn sample(prompt: &str, reward: f64) -> Sample {
        Sample {
            prompt: prompt.to_owned(),
            completion: String::new(),
            tokens: 1,
            ended: true,
            log_prob: 0.0,
            true_reward: Some(reward),
            score: None,
            kl: None,
        }
    }

    #[test]
    fn an_estimate_is_over_prompts() {
        let samples = [sample("a", 1.0), sample("a", 3.0), sample("b", 4.0)];
        // Means 2 and 4: mean 3, deviation √2, error √2 / √2.
        let found = estimate(&samples, Sample::reward).unwrap();
        assert!((found.mean - 3.0).abs() < 1e-12 && (found.sem - 1.0).abs() < 1e-12);
        assert_eq!(estimate(&samples, |sample| sample.score), None);
    }

    #[test]
    fn every_sample_meets_every_rival_of_its_prompt() {
        let ours = [sample("a", 1.0), sample("a", 2.0), sample("c", 9.0)];
        let theirs = [sample("a", 1.0), sample("a", 0.0), sample("b", 9.0)];
        // 1 = 1, 1 > 0, 2 > 1, 2 > 0.
        let found = win_rate(&ours, &theirs, 1).unwrap();
        assert!((found.rate - 0.875).abs() < 1e-12 && found.prompts == 1);
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_but_from_another() {
        let [one, other] =
            [1, 2].map(|seed| Model::fresh(tiny(), Stream::of(seed), tch::Device::Cpu));
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let same = sequence_divergences(&one, &one, &rows, |_, _| Ok(())).unwrap();
        assert!(same.len() == 2 && same.iter().all(|kl| kl.abs() < 1e-6));
        assert!(
            sequence_divergences(&one, &other, &rows, |_, _| Ok(()))
                .unwrap()
                .iter()
                .all(|kl| *kl > 0.0)
        );
    }
}
