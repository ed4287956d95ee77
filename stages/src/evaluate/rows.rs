//! The rows of a comparison: a candidate each, or the mean over candidates that differ by their seed alone.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    candidate::Candidate,
    label::{Label, quoted},
    samples::Reward,
};
use crate::{
    error::StageError,
    nn::statistics::{Estimate, Interval, mean_of},
};

/// What is said of a candidate, or of its replicates together.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) label: Label,
    pub(super) baseline: bool,
    pub(super) true_reward: Option<Estimate>,
    pub(super) score: Option<Estimate>,
    pub(super) kl: Option<Estimate>,
    pub(super) win_rate: Option<Estimate>,
    pub(super) replicates: usize,
    pub(super) prompts: usize,
    /// Of all replicates together.
    pub(super) samples: usize,
    /// The candidates that it is about, by their places.
    #[serde(skip)]
    pub(super) members: Vec<usize>,
}

impl Row {
    pub(super) fn reward(&self, reward: Reward) -> Option<Estimate> {
        match reward {
            Reward::TrueReward => self.true_reward,
            Reward::Score => self.score,
        }
    }
}

/// Rows by name. With `axis` the candidates that differ in it alone are replicates.
pub(super) fn rows(candidates: &[Candidate], axis: Option<&str>) -> Result<Vec<Row>, StageError> {
    let mut groups: Vec<(Label, Vec<usize>)> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let label = axis.map_or(candidate.label.clone(), |axis| candidate.label.without(axis));
        match groups.iter_mut().find(|(known, _)| axis.is_some() && *known == label) {
            Some((_, members)) => members.push(index),
            None => groups.push((label, vec![index])),
        }
    }
    if let Some(axis) = axis {
        checked(candidates, axis, &groups)?;
    }
    let mut rows: Vec<Row> = Vec::new();
    for (label, members) in groups {
        let row = row(candidates, label, members, axis.is_some());
        if rows.iter().any(|known| known.name == row.name) {
            return Err(StageError::refused(format!(
                "two candidates would both be called `{}`: name them apart in `labels`",
                row.name
            )));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Says whether replicates really are that: the axis is there, and no point of it twice.
fn checked(
    candidates: &[Candidate],
    axis: &str,
    groups: &[(Label, Vec<usize>)],
) -> Result<(), StageError> {
    if candidates.iter().all(|it| it.label.value(axis).is_none()) {
        let names = candidates.iter().flat_map(|it| &it.label.axes).map(|(name, _)| name.clone());
        let known: BTreeSet<String> = names.collect();
        let known: Vec<String> = known.into_iter().collect();
        let known = if known.is_empty() { "none".to_owned() } else { quoted(&known) };
        return Err(StageError::refused(format!(
            "no candidate has the axis `{axis}`, which `replicates` names: their axes are {known}"
        )));
    }
    for (label, members) in groups.iter().filter(|(_, members)| members.len() > 1) {
        let values = members.iter().map(|member| candidates[*member].label.value(axis));
        let apart: BTreeSet<&str> = values.flatten().collect();
        if apart.len() < members.len() {
            return Err(StageError::refused(format!(
                "candidates called `{label}` do not all differ in `{axis}`: name them apart in `labels`"
            )));
        }
    }
    Ok(())
}

fn row(candidates: &[Candidate], label: Label, members: Vec<usize>, replicated: bool) -> Row {
    let all: Vec<&Candidate> = members.iter().map(|member| &candidates[*member]).collect();
    let over = |estimate: &dyn Fn(&Candidate) -> Option<Estimate>| {
        let estimates: Option<Vec<Estimate>> = all.iter().map(|it| estimate(it)).collect();
        if !replicated {
            return estimates.and_then(|estimates| estimates.first().copied());
        }
        // Every replicate has the same prompts, so its mean over them is one observation.
        mean_of(&estimates?.iter().map(|it| it.value).collect::<Vec<_>>())
    };
    Row {
        name: label.to_string(),
        label,
        baseline: all.iter().any(|it| it.baseline),
        true_reward: over(&|it| it.evaluation.true_reward),
        score: over(&|it| it.evaluation.score),
        kl: over(&|it| it.evaluation.kl),
        win_rate: over(&|it| it.win_rate).map(within_0_and_1),
        replicates: all.len(),
        prompts: all.first().map_or(0, |it| it.evaluation.measured.prompt_count),
        samples: all.iter().map(|it| it.evaluation.samples.len()).sum(),
        members,
    }
}

/// A rate's bounds, which t takes further.
fn within_0_and_1(rate: Estimate) -> Estimate {
    let bounded = |it: Interval| Interval { low: it.low.max(0.0), high: it.high.min(1.0) };
    Estimate { interval: rate.interval.map(bounded), ..rate }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::candidate::tests::candidate, *};

    fn judged(names: &[&str]) -> Vec<Candidate> {
        names.iter().enumerate().map(|(i, name)| candidate(name, i as f64, 1.0)).collect()
    }

    #[test]
    fn replicates_are_one_row_with_an_interval_over_them() {
        let candidates = judged(&[
            "dpo[seed=1,beta=0.1]",
            "dpo[seed=2,beta=0.1]",
            "dpo[seed=1,beta=0.2]",
            "sft",
        ]);
        let rows = rows(&candidates, Some("seed")).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.replicates)).collect();
        assert_eq!(found, [("dpo[beta=0.1]", 2), ("dpo[beta=0.2]", 1), ("sft", 1)]);
        // A candidate's own mean lies 0.75 above its number.
        assert_eq!(rows[0].true_reward, mean_of(&[0.75, 1.75]));
        assert_eq!(rows[1].true_reward, Some(Estimate { value: 2.75, interval: None }));
        assert_eq!((rows[0].prompts, rows[0].samples), (2, 8));
    }

    #[test]
    fn without_replicates_a_row_is_what_was_measured() {
        let candidates = judged(&["dpo[seed=1]", "dpo[seed=2]"]);
        let rows = rows(&candidates, None).unwrap();
        assert_eq!(rows[1].true_reward, candidates[1].evaluation.true_reward);
        assert_eq!(rows[1].name, "dpo[seed=2]");
    }

    #[test]
    fn an_axis_that_no_candidate_has_and_names_that_collide_are_refused() {
        let refused = |names: &[&str], axis: Option<&str>| {
            rows(&judged(names), axis).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&["dpo[beta=1]", "sft"], Some("seed")),
            "no candidate has the axis `seed`, which `replicates` names: their axes are `beta`"
        );
        let error = refused(&["dpo", "dpo"], None);
        assert!(error.starts_with("two candidates would both be called `dpo`"), "{error}");
        for pair in [["dpo[seed=1]", "dpo[seed=1]"], ["dpo[seed=1]", "dpo"]] {
            let error = refused(&pair, Some("seed"));
            assert!(error.starts_with("candidates called `dpo` do not all differ"), "{error}");
        }
    }

    #[test]
    fn a_win_rate_is_never_above_one() {
        let mut candidates = judged(&["dpo[seed=1]", "dpo[seed=2]"]);
        for (candidate, value) in candidates.iter_mut().zip([0.9, 1.0]) {
            candidate.win_rate = Some(Estimate { value, interval: None });
        }
        let found = rows(&candidates, Some("seed")).unwrap()[0].win_rate.unwrap();
        assert!((found.interval.unwrap().high - 1.0).abs() < 1e-12);
    }
}
