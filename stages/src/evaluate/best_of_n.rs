//! `evaluate.best_of_n`: what a policy is worth if of several completions only the best is kept: the baseline that whoever trains a policy
//! must beat (Nakano et al. 2021, "`WebGPT`"; Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization").
//!
//! It chooses among samples that are there, so `evaluate.compare` holds it against other evaluations like any other.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    evaluation::Evaluation,
    measured::BestOf,
    policy::summed_up,
    samples::{Reward, Sample, by_prompt, is_right},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    port::{Out, file_of, ports},
    stage::Stage,
};

/// Keep the best of n samples.
pub(crate) struct BestOfN;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Of how many completions the best is kept. It must divide the samples of each prompt, of which so many times fewer are left.
    #[schemars(range(min = 2))]
    n: usize,
    /// By which reward. By the true reward it is an upper bound that nobody reaches who must guess what is good.
    #[serde(default = "score")]
    by: Reward,
}

fn score() -> Reward {
    Reward::Score
}

ports!(Inputs {
    /// Several completions of each prompt, with a reward.
    evaluation: artifact::Evaluation,
});
ports!(Outputs {
    /// The best ones alone.
    evaluation: Out<artifact::Evaluation>,
});

impl Stage for BestOfN {
    const KIND: &'static str = "evaluate.best_of_n";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Evaluate the best of n completions of each prompt.

The first n completions of a prompt leave their best, the next n theirs, and so on; of equal ones the first. So an evaluation with \
16 samples of each prompt and `n: 4` is held against others with 4. Where the policy was its own reference, the KL divergence is the upper \
bound ln n − (n − 1) / n (Beirami et al. 2024, theorem 1); else there is none.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let artifact = &inputs.evaluation;
        let evaluation = Evaluation::read(file_of(&artifact.source)?, &artifact.label)?;
        let kept = params.kept(evaluation)?;
        kept.write(&outputs.evaluation.path)?;
        for (name, estimate) in kept.estimates() {
            if let Some(estimate) = estimate {
                context.estimate(name, &estimate);
            }
        }
        Ok(())
    }
}

impl Params {
    /// The best of every `n` samples of a prompt.
    fn kept(&self, evaluation: Evaluation) -> Result<Evaluation, StageError> {
        let Evaluation { mut measured, samples, .. } = evaluation;
        if measured.best_of.is_some() {
            return Err(StageError::refused(
                "these are the best of several already: choose among what `evaluate.policy` sampled",
            ));
        }
        let each = measured.decoding.samples_per_prompt;
        if each % self.n != 0 {
            return Err(StageError::refused(format!(
                "each prompt has {each} samples, which `n: {}` does not divide: set `samples_per_prompt` of the evaluation to a multiple \
                 of it",
                self.n
            )));
        }
        if let Some(sample) = samples.iter().find(|it| self.by.of(it).is_none()) {
            return Err(StageError::refused(format!(
                "a sample of `{}` has no {}: give the evaluation `{}`, or choose `by` another",
                sample.prompt,
                self.by.words(),
                self.by.port()
            )));
        }
        let own_reference = samples.iter().all(|it| it.kl.is_some_and(|kl| kl.abs() < OWN));
        let bound = own_reference.then(|| divergence_bound(self.n));
        let best = by_prompt(&samples).flat_map(|samples| samples.chunks(self.n));
        let best = best.filter_map(|some| self.best(some));
        let best: Vec<Sample> = best.map(|it| Sample { kl: bound, ..it.clone() }).collect();
        measured.decoding.samples_per_prompt = each / self.n;
        measured.best_of = Some(BestOf { n: self.n, by: self.by });
        let right_or_wrong = best.iter().all(|it| is_right(it).is_some());
        Ok(summed_up(measured, best, right_or_wrong))
    }

    fn best<'s>(&self, some: &'s [Sample]) -> Option<&'s Sample> {
        let reward = |it: &Sample| self.by.of(it).unwrap_or(f64::NEG_INFINITY);
        some.iter().reduce(|best, it| if reward(it) > reward(best) { it } else { best })
    }
}

/// Divergences below this, in nats per completion, are a policy's from itself, which rounding keeps from 0.
pub(super) const OWN: f64 = 1e-3;

/// How far the best of `n` samples are from what they were sampled from, at most, in nats: ln n − (n − 1) / n (Beirami et al. 2024,
/// "Theoretical Guarantees on the Best-of-n Alignment Policy", theorem 1). Where no two samples are alike it is that.
pub(super) fn divergence_bound(n: usize) -> f64 {
    let n = n as f64;
    n.ln() - (n - 1.0) / n
}

#[cfg(test)]
mod tests {
    use super::{super::evaluation::tests::evaluation, *};

    fn params(n: usize, by: &str) -> Params {
        serde_json::from_value(serde_json::json!({ "n": n, "by": by })).unwrap()
    }

    /// Four samples of each of two prompts; the scores find the best of the second prompt only in its second half.
    fn four() -> Evaluation {
        let mut it = evaluation(&["A lamp:", "A desk:"], 0.0, 0.0);
        let template = it.samples[0].clone();
        let scores = [[1.0, 3.0, 2.0, 2.0], [5.0, 4.0, 0.0, 9.0]];
        let truths = [[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]];
        it.samples = Vec::new();
        for (prompt, (scores, truths)) in
            ["A lamp:", "A desk:"].iter().zip(scores.iter().zip(truths))
        {
            for (score, truth) in scores.iter().zip(truths) {
                it.samples.push(Sample {
                    prompt: (*prompt).to_owned(),
                    score: Some(*score),
                    true_reward: Some(truth),
                    kl: Some(1e-7),
                    ..template.clone()
                });
            }
        }
        it.measured.decoding.samples_per_prompt = 4;
        it
    }

    #[test]
    fn of_every_n_samples_the_best_is_kept() {
        let of = |n, by| params(n, by).kept(four()).unwrap();
        let kept = of(2, "score");
        let truths: Vec<_> = kept.samples.iter().map(|it| it.true_reward.unwrap()).collect();
        // 3 of 1 and 3; of the equal ones the first; 5 of 5 and 4; 9 of 0 and 9.
        assert_eq!(truths, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(kept.measured.decoding.samples_per_prompt, 2);
        assert!((kept.true_reward.unwrap().value - 0.5).abs() < 1e-12);
        assert!((kept.kl.unwrap().value - (2.0_f64.ln() - 0.5)).abs() < 1e-12);
        assert!((of(4, "true_reward").true_reward.unwrap().value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_chosen_among_is_refused() {
        let refused = |params: Params, it| params.kept(it).unwrap_err().to_string();
        insta::assert_snapshot!(refused(params(3, "score"), four()), @"each prompt has 4 samples, which `n: 3` does not divide: set `samples_per_prompt` of the evaluation to a multiple of it");
        let mut unscored = four();
        unscored.samples[5].score = None;
        insta::assert_snapshot!(refused(params(2, "score"), unscored), @"a sample of `A desk:` has no reward-model score: give the evaluation `reward_model`, or choose `by` another");
        let again = params(2, "score").kept(four()).unwrap();
        assert!(refused(params(2, "score"), again).contains("the best of several already"));
    }

    #[test]
    fn far_from_its_reference_a_policy_has_no_bound() {
        let mut it = four();
        it.samples[0].kl = Some(0.2);
        assert_eq!(params(2, "score").kept(it).unwrap().kl, None);
        assert!(divergence_bound(1).abs() < 1e-12);
    }
}
