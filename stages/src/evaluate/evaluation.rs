//! The file of an evaluation: `evaluate.policy` writes it, `evaluate.compare` and baselines are read from it.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    measured::Measured,
    samples::{Reward, Sample, completions, pass_at},
    variety::{distinct, duplicates, self_bleu},
};
use crate::{error::StageError, nn::statistics::Estimate};

/// Raised when a file of before would be misread.
const VERSION: u64 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evaluation {
    /// Says what the file is, and how to read it.
    #[serde(rename = "gradus_evaluation")]
    version: u64,
    pub(super) measured: Measured,
    /// The means over prompts of what samples hold.
    pub(super) true_reward: Option<Estimate>,
    pub(super) score: Option<Estimate>,
    pub(super) kl: Option<Estimate>,
    pub(super) tokens: Option<Estimate>,
    /// Share of samples that came to an end by themselves.
    pub(super) ended: Option<Estimate>,
    /// What the environment gave, and how often the policy spoke, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<Estimate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) turns: Option<Estimate>,
    pub(super) perplexity: Option<f64>,
    /// Against the baseline that it was given, under either reward.
    pub(super) win_rate_true_reward: Option<Estimate>,
    pub(super) win_rate_score: Option<Estimate>,
    pub(super) samples: Vec<Sample>,
}

impl Evaluation {
    /// Samples, and nothing said about them yet.
    pub(super) fn of(measured: Measured, samples: Vec<Sample>) -> Self {
        Self {
            version: VERSION,
            measured,
            true_reward: None,
            score: None,
            kl: None,
            tokens: None,
            ended: None,
            environment: None,
            turns: None,
            perplexity: None,
            win_rate_true_reward: None,
            win_rate_score: None,
            samples,
        }
    }

    pub(super) fn reward(&self, reward: Reward) -> Option<Estimate> {
        match reward {
            Reward::TrueReward => self.true_reward,
            Reward::Score => self.score,
        }
    }

    /// All that is an estimate, by the name that a summary has it under.
    pub(super) fn estimates(&self) -> [(&'static str, Option<Estimate>); 9] {
        [
            ("true_reward", self.true_reward),
            ("score", self.score),
            ("kl", self.kl),
            ("tokens", self.tokens),
            ("ended", self.ended),
            ("environment", self.environment),
            ("turns", self.turns),
            ("win_rate_true_reward", self.win_rate_true_reward),
            ("win_rate_score", self.win_rate_score),
        ]
    }

    /// The number of that name, if it has it.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        if name == "perplexity" {
            return self.perplexity;
        }
        if let Some(k) = name.strip_prefix("pass_at_").and_then(|k| k.parse().ok()) {
            return pass_at(&self.samples, k).map(|it| it.value);
        }
        let of_texts = match name {
            "duplicates" => duplicates(&completions(&self.samples)),
            "distinct_1" => distinct(&completions(&self.samples), 1),
            "distinct_2" => distinct(&completions(&self.samples), 2),
            "self_bleu" => self_bleu(&completions(&self.samples)),
            _ => None,
        };
        if let Some(found) = of_texts {
            return Some(found.value);
        }
        let estimates = self.estimates().into_iter();
        let mut named = estimates.filter(|(known, _)| *known == name);
        named.next().and_then(|(_, estimate)| estimate).map(|it| it.value)
    }

    /// Reads the evaluation that is called `name`.
    pub(super) fn read(path: &Path, name: &str) -> Result<Self, StageError> {
        let unsound = |why: String| {
            StageError::refused(format!("the evaluation `{name}` is not sound: {why}"))
        };
        let bytes = fs::read(path).map_err(StageError::file(path))?;
        let mut file: Value =
            serde_json::from_slice(&bytes).map_err(|error| unsound(error.to_string()))?;
        if file["gradus_evaluation"].as_u64() != Some(VERSION) {
            return Err(StageError::refused(format!(
                "the evaluation `{name}` was written by another version of gradus: run \
                 `evaluate.policy` again"
            )));
        }
        let samples = file.get_mut("samples").map(Value::take).unwrap_or_default();
        let Value::Array(samples) = samples else {
            return Err(unsound("it has no samples".to_owned()));
        };
        file["samples"] = Value::Array(Vec::new());
        let mut evaluation: Self =
            serde_json::from_value(file).map_err(|error| unsound(error.to_string()))?;
        for (index, sample) in samples.into_iter().enumerate() {
            let sample = serde_json::from_value(sample);
            let sample = sample.map_err(|why| unsound(format!("sample {}: {why}", index + 1)))?;
            evaluation.samples.push(sample);
        }
        evaluation.check().map_err(unsound)?;
        Ok(evaluation)
    }

    /// Writes it, unless a number in it is none.
    pub(super) fn write(&self, path: &Path) -> Result<(), StageError> {
        self.check().map_err(StageError::Refused)?;
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| StageError::refused(error.to_string()))?;
        fs::write(path, json + "\n").map_err(StageError::file(path))
    }

    /// Says which number is not finite, if any.
    fn check(&self) -> Result<(), String> {
        for (index, sample) in self.samples.iter().enumerate() {
            for (name, value) in [
                ("log_prob", Some(sample.log_prob)),
                ("sampling_log_prob", Some(sample.sampling_log_prob)),
                ("true_reward", sample.true_reward),
                ("score", sample.score),
                ("kl", sample.kl),
                ("environment", sample.conversation.as_ref().map(|it| it.reward)),
            ] {
                if let Some(value) = value.filter(|value| !value.is_finite()) {
                    let (place, prompt) = (index + 1, &sample.prompt);
                    return Err(format!("sample {place} (`{prompt}`): its `{name}` is {value}"));
                }
            }
        }
        let perplexity = self.perplexity.map(|value| Estimate { value, interval: None });
        for (name, estimate) in self.estimates().into_iter().chain([("perplexity", perplexity)]) {
            let finite = |it: &Estimate| {
                let bounds = it.interval.is_none_or(|it| it.low.is_finite() && it.high.is_finite());
                it.value.is_finite() && bounds
            };
            if estimate.is_some_and(|estimate| !finite(&estimate)) {
                return Err(format!("its `{name}` is not finite"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::{
            measured::tests::measured,
            samples::{mean_over_prompts, tests::sample},
        },
        *,
    };

    /// Two samples of each of as many prompts, whose rewards lie around `reward`.
    pub(in crate::evaluate) fn evaluation(prompts: &[&str], reward: f64, kl: f64) -> Evaluation {
        let one = |(index, prompt): (usize, &&str)| {
            [0.0, 0.5].map(|more| Sample {
                completion: format!(" It is\n{reward}."),
                score: Some(10.0 * reward),
                kl: Some(kl + more + index as f64),
                ..sample(prompt, reward + more + index as f64)
            })
        };
        let samples: Vec<_> = prompts.iter().enumerate().flat_map(one).collect();
        let mut found = Evaluation::of(measured(prompts), samples);
        found.true_reward = mean_over_prompts(&found.samples, |it| it.true_reward);
        found.score = mean_over_prompts(&found.samples, |it| it.score);
        found.kl = mean_over_prompts(&found.samples, |it| it.kl);
        found
    }

    fn read(text: &str) -> Result<Evaluation, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluation");
        fs::write(&path, text).unwrap();
        Evaluation::read(&path, "dpo").map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluation");
        let written = evaluation(&["A lamp:", "A desk:"], 1.0, 2.0);
        written.write(&path).unwrap();
        assert_eq!(Evaluation::read(&path, "dpo").unwrap(), written);
    }

    #[test]
    fn a_file_of_another_version_is_refused_in_words() {
        let error = read(r#"{ "name": "dpo", "reward_mean": 1.0, "samples": [] }"#).unwrap_err();
        assert!(error.contains("`dpo` was written by another version of gradus"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_named_by_its_sample() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluation");
        let sound = evaluation(&["A lamp:", "A desk:"], 1.0, 2.0);
        let mut broken = sound.clone();
        broken.samples[2].score = Some(f64::NAN);
        let error = broken.write(&path).unwrap_err().to_string();
        assert_eq!(error, "sample 3 (`A desk:`): its `score` is NaN");
        assert!(!path.exists());
        let mut broken = sound.clone();
        broken.perplexity = Some(f64::INFINITY);
        let error = broken.write(&path).unwrap_err().to_string();
        assert_eq!(error, "its `perplexity` is not finite");
        let text = serde_json::to_string(&sound).unwrap();
        let error = read(&text.replacen("\"log_prob\":-1.0", "\"log_prob\":null", 1)).unwrap_err();
        assert!(error.contains("`dpo` is not sound: sample 1: invalid type: null"), "{error}");
    }
}
