//! What an evaluation was measured with, and which evaluations may be compared.

use gradus_protocol::Source;
use serde::{Deserialize, Serialize};

use super::samples::Reward;
use crate::rollout::decoding::Decoding;
use crate::{artifact::digest::digest, error::StageError};

/// Digests stand for prompts and files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    /// Of the list of prompts that were completed.
    pub(super) prompts: String,
    pub(super) prompt_count: usize,
    pub(super) true_reward: Option<String>,
    pub(super) reward_model: Option<String>,
    /// What the KL divergence is measured from.
    pub(super) reference: Option<String>,
    pub(super) decoding: Decoding,
    /// Whom it talked to, if to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<String>,
    /// Of how many each sample is the best, and by what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) best_of: Option<BestOf>,
}

/// How the best of several samples was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BestOf {
    pub(super) n: usize,
    pub(super) by: Reward,
}

impl Measured {
    /// With these prompts, and none of the judges yet.
    pub(super) fn on<'p>(prompts: impl Iterator<Item = &'p str>, decoding: &Decoding) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 prompts of an evaluation");
        let mut prompt_count = 0;
        for prompt in prompts {
            hasher.update(&(prompt.len() as u64).to_le_bytes()).update(prompt.as_bytes());
            prompt_count += 1;
        }
        Self {
            prompts: hasher.finalize().to_hex().to_string(),
            prompt_count,
            true_reward: None,
            reward_model: None,
            reference: None,
            decoding: decoding.clone(),
            environment: None,
            best_of: None,
        }
    }

    /// Refuses two runs of one thing whose numbers called `metric` are on different scales. Each may have prompts and a reference of
    /// its own, as the seed of a whole experiment decides; not another judge, nor other decoding.
    pub(super) fn same_scale(
        &self,
        other: &Self,
        metric: &str,
        [own_name, other_name]: [&str; 2],
    ) -> Result<(), StageError> {
        let mut differ = self.decoding.differences(&other.decoding);
        let by_model = ["score", "win_rate_score"].contains(&metric);
        if by_model && self.reward_model != other.reward_model {
            differ.push("reward model".to_owned());
        }
        let by_truth = ["true_reward", "win_rate_true_reward"].contains(&metric);
        if (by_truth || metric.starts_with("pass_at_")) && self.true_reward != other.true_reward {
            differ.push("true reward".to_owned());
        }
        if differ.is_empty() {
            return Ok(());
        }
        Err(StageError::refused(format!(
            "`{own_name}` and `{other_name}` are no runs of one task: they differ in {}. Give what differs a seed of its own that \
             all runs share, or name its axis in `strata`",
            differ.join(", ")
        )))
    }

    /// Says what differs between the two, if that makes their numbers mean different things. What only one
    /// was measured by is no hindrance: the other has no number there.
    pub(super) fn comparable(
        &self,
        other: &Self,
        [own_name, other_name]: [&str; 2],
    ) -> Result<(), StageError> {
        let mut differ = Vec::new();
        if self.prompts != other.prompts {
            differ.push(format!("prompts ({} and {})", self.prompt_count, other.prompt_count));
        }
        for (what, ours, theirs) in [
            ("true reward", &self.true_reward, &other.true_reward),
            ("reward model", &self.reward_model, &other.reward_model),
            ("reference of the KL divergence", &self.reference, &other.reference),
        ] {
            if ours.as_ref().zip(theirs.as_ref()).is_some_and(|(a, b)| a != b) {
                differ.push(what.to_owned());
            }
        }
        // Who talked to nobody was asked something else.
        if self.environment != other.environment {
            differ.push("environment".to_owned());
        }
        differ.extend(self.decoding.differences(&other.decoding));
        if differ.is_empty() {
            return Ok(());
        }
        Err(StageError::refused(format!(
            "`{own_name}` and `{other_name}` were measured differently and cannot be compared: they differ in {}",
            differ.join(", ")
        )))
    }
}

/// The digest of an optional judge.
pub(super) fn known(source: Option<&Source>) -> Result<Option<String>, StageError> {
    source.map(digest).transpose()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::evaluate) fn measured(prompts: &[&str]) -> Measured {
        Measured::on(prompts.iter().copied(), &serde_json::from_value(json!({})).unwrap())
    }

    fn refusal(change: impl Fn(&mut Measured)) -> String {
        let mut ours = measured(&["A lamp:", "A desk:"]);
        ours.reward_model = Some("one".to_owned());
        ours.reference = Some("sft".to_owned());
        let mut theirs = ours.clone();
        change(&mut theirs);
        match ours.comparable(&theirs, ["dpo", "ppo"]) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_was_measured_alike_is_compared() {
        assert_eq!(refusal(|_| ()), "");
        assert_eq!(refusal(|it| it.true_reward = Some("known".to_owned())), "");
        assert_eq!(refusal(|it| it.reward_model = None), "");
    }

    #[test]
    fn what_differs_is_named_with_both_candidates() {
        let said =
            "`dpo` and `ppo` were measured differently and cannot be compared: they differ in ";
        let refused = |words: &str, change: &dyn Fn(&mut Measured)| {
            assert_eq!(refusal(change), format!("{said}{words}"));
        };
        refused("prompts (2 and 1)", &|it| {
            (it.prompts, it.prompt_count) = ("other".to_owned(), 1);
        });
        refused("reward model", &|it| it.reward_model = Some("two".to_owned()));
        refused("reference of the KL divergence", &|it| it.reference = Some("base".to_owned()));
        refused("`samples_per_prompt` (1 and 4), `temperature` (1.0 and 0.7)", &|it| {
            (it.decoding.temperature, it.decoding.samples_per_prompt) = (0.7, 4);
        });
    }

    #[test]
    fn runs_may_have_other_prompts_but_no_other_judge_of_the_metric() {
        let ours = measured(&["A lamp:"]);
        let refused = |metric: &str, change: &dyn Fn(&mut Measured)| {
            let mut theirs = measured(&["A desk:", "A bed:"]);
            change(&mut theirs);
            let names = ["dpo[seed=0]", "dpo[seed=1]"];
            ours.same_scale(&theirs, metric, names)
                .map_or_else(|it| it.to_string(), |()| String::new())
        };
        assert_eq!(refused("true_reward", &|_| ()), "");
        let model = |it: &mut Measured| it.reward_model = Some("two".to_owned());
        assert_eq!(refused("true_reward", &model), "");
        insta::assert_snapshot!(refused("score", &model), @"`dpo[seed=0]` and `dpo[seed=1]` are no runs of one task: they differ in reward model. Give what differs a seed of its own that all runs share, or name its axis in `strata`");
        let truth = |it: &mut Measured| it.true_reward = Some("two".to_owned());
        assert!(refused("pass_at_4", &truth).contains("differ in true reward."));
        let cold = |it: &mut Measured| it.decoding.temperature = 0.5;
        assert!(refused("kl", &cold).contains("`temperature` (1.0 and 0.5)"));
    }

    #[test]
    fn prompts_are_a_list_and_not_their_letters() {
        let digests = [&["ab", "c"][..], &["a", "bc"], &["c", "ab"]].map(|it| measured(it).prompts);
        assert!(digests[0] != digests[1] && digests[0] != digests[2]);
    }
}
