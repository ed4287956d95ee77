//! The evaluations that are compared, each by a name of its own.

use std::collections::BTreeMap;

use super::{
    evaluation::Evaluation,
    label::{Label, named, quoted},
    samples::Reward,
    win_rate::win_rate,
};
use crate::{artifact, error::StageError, nn::statistics::Estimate, port::file_of};

pub(super) struct Candidate {
    pub(super) label: Label,
    pub(super) baseline: bool,
    pub(super) evaluation: Evaluation,
    /// Against the baseline.
    pub(super) win_rate: Option<Estimate>,
}

/// Reads candidates and baseline, which may be one of them, under the names that were chosen.
pub(super) fn read(
    candidates: &[(String, artifact::Evaluation)],
    baseline: Option<&artifact::Evaluation>,
    chosen: &BTreeMap<String, String>,
) -> Result<Vec<Candidate>, StageError> {
    let mut all: Vec<(&str, &artifact::Evaluation)> =
        candidates.iter().map(|(label, it)| (label.as_str(), it)).collect();
    let known = baseline.map(|baseline| {
        let place = all.iter().position(|(_, it)| it.source == baseline.source);
        place.unwrap_or_else(|| {
            all.push((&baseline.label, baseline));
            all.len() - 1
        })
    });
    let labels: Vec<String> = all.iter().map(|(label, _)| (*label).to_owned()).collect();
    let names = named(&told_apart(&labels), chosen)?;
    let mut read = Vec::new();
    for (index, (label, (_, artifact))) in names.into_iter().zip(all).enumerate() {
        let evaluation = Evaluation::read(file_of(&artifact.source)?, &label.to_string())?;
        let baseline = known == Some(index);
        read.push(Candidate { label, baseline, evaluation, win_rate: None });
    }
    Ok(read)
}

/// Labels that are equal, as those of files are that lie in several folders, with a number.
fn told_apart(labels: &[String]) -> Vec<String> {
    let count = |part: &[String], label: &String| part.iter().filter(|it| *it == label).count();
    let one = |(index, label): (usize, &String)| match count(labels, label) {
        1 => label.clone(),
        _ => format!("{label} ({})", count(&labels[..=index], label)),
    };
    labels.iter().enumerate().map(one).collect()
}

/// Refuses candidates that were measured differently.
pub(super) fn comparable(candidates: &[Candidate]) -> Result<(), StageError> {
    for (index, one) in candidates.iter().enumerate() {
        for other in &candidates[index + 1..] {
            let names = [&one.label, &other.label].map(ToString::to_string);
            let names = [names[0].as_str(), names[1].as_str()];
            one.evaluation.measured.comparable(&other.evaluation.measured, names)?;
        }
    }
    Ok(())
}

/// The reward that a comparison is about: what was asked for, else the true reward, else the score, as all
/// candidates have it.
pub(super) fn reward(
    asked: Option<Reward>,
    candidates: &[Candidate],
) -> Result<Reward, StageError> {
    let without = |reward: Reward| -> Vec<String> {
        let lack = candidates.iter().filter(|it| it.evaluation.reward(reward).is_none());
        lack.map(|it| it.label.to_string()).collect()
    };
    let wanted = asked.as_slice();
    let tried = if wanted.is_empty() { Reward::BOTH.as_slice() } else { wanted };
    if let Some(reward) = tried.iter().find(|reward| without(**reward).is_empty()) {
        return Ok(*reward);
    }
    let lacking = tried.iter().map(|it| format!("{}: {}", it.words(), quoted(&without(*it))));
    Err(StageError::refused(format!(
        "there is no reward that all candidates have. Without {}",
        lacking.collect::<Vec<_>>().join("; without ")
    )))
}

/// Gives every candidate but the baseline its win rate against it.
pub(super) fn compete(candidates: &mut [Candidate], reward: Reward) {
    let Some(baseline) = candidates.iter().position(|it| it.baseline) else { return };
    let rivals = candidates[baseline].evaluation.samples.clone();
    for candidate in candidates.iter_mut().filter(|it| !it.baseline) {
        candidate.win_rate = win_rate(&candidate.evaluation.samples, &rivals, reward);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::{evaluation::tests::evaluation, label::tests::labels},
        *,
    };

    pub(in crate::evaluate) fn candidate(name: &str, reward: f64, kl: f64) -> Candidate {
        Candidate {
            label: labels(&[name]).remove(0),
            baseline: name == "sft",
            evaluation: evaluation(&["A lamp:", "A desk:"], reward, kl),
            win_rate: None,
        }
    }

    #[test]
    fn the_true_reward_counts_where_all_have_it_and_else_the_score() {
        let mut candidates = [candidate("dpo", 1.0, 2.0), candidate("sft", 0.0, 0.0)];
        assert_eq!(reward(None, &candidates).unwrap(), Reward::TrueReward);
        assert_eq!(reward(Some(Reward::Score), &candidates).unwrap(), Reward::Score);
        candidates[1].evaluation.true_reward = None;
        assert_eq!(reward(None, &candidates).unwrap(), Reward::Score);
        let error = reward(Some(Reward::TrueReward), &candidates).unwrap_err().to_string();
        assert!(error.ends_with("Without true reward: `sft`"), "{error}");
        candidates[0].evaluation.score = None;
        let error = reward(None, &candidates).unwrap_err().to_string();
        let all = "Without true reward: `sft`; without reward-model score: `dpo`";
        assert!(error.ends_with(all), "{error}");
    }

    #[test]
    fn all_but_the_baseline_have_a_win_rate_against_it() {
        let mut candidates = [candidate("dpo", 1.0, 2.0), candidate("sft", 0.0, 0.0)];
        compete(&mut candidates, Reward::TrueReward);
        assert_eq!(
            candidates.each_ref().map(|it| it.win_rate.map(|it| it.value)),
            [Some(1.0), None]
        );
    }

    #[test]
    fn any_two_that_were_measured_differently_are_refused() {
        let mut candidates = ["dpo", "ppo", "sft"].map(|name| candidate(name, 1.0, 2.0));
        comparable(&candidates).unwrap();
        candidates[1].evaluation.measured.reference = Some("base".to_owned());
        candidates[2].evaluation.measured.reference = Some("sft".to_owned());
        let error = comparable(&candidates).unwrap_err().to_string();
        assert!(error.starts_with("`ppo` and `sft` were measured differently"), "{error}");
    }

    #[test]
    fn equal_labels_are_told_apart() {
        let labels = ["a.json", "b.json", "a.json"].map(str::to_owned);
        assert_eq!(told_apart(&labels), ["a.json (1)", "b.json", "a.json (2)"]);
    }
}
