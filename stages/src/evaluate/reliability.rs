//! `evaluate.reliability`: how far a reward is to be trusted, band by band: what completions are worth whose score is low, middling or high
//! (as a reliability diagram, Murphy & Winkler 1977; of reward models Zhang et al. 2025, "Policy Filtration for RLHF", section 3).

use std::{fmt::Write as _, fs};

use gradus_plot::{Figure, Look, PlotError, Point, Series};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        discrimination::{area, correlation},
        statistics::{Estimate, mean, mean_of},
    },
    port::{Out, ports},
    rollout::trajectories::{Trajectory, read},
    stage::Stage,
};

/// Measure how far a reward is to be trusted.
pub(crate) struct Reliability;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The reward that is to be trusted, by its name in the rollouts; `reward` is what all come to.
    score: String,
    /// The reward that it is held against.
    truth: String,
    /// Bands of as many completions each, in the order of the score.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    bands: usize,
    /// The heading of the plot and the report.
    #[serde(default = "title")]
    title: String,
}

fn ten() -> usize {
    10
}
fn title() -> String {
    "Reliability".to_owned()
}

ports!(Inputs {
    /// Completions with both rewards.
    rollouts: artifact::Rollouts,
});
ports!(Outputs {
    /// `auroc` where the truth is 0 or 1, `correlation`, `ratio` (mean score over mean truth) and `calibration_error`, as JSON.
    numbers: Out<artifact::File>,
    /// Every band: how many completions, mean score, mean truth with its interval, as CSV.
    table: Out<artifact::Table>,
    /// The same as Markdown.
    report: Out<artifact::Report>,
    /// Mean truth against mean score, band by band.
    plot: Out<artifact::Plot>,
});

/// Completions of neighbouring scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Band {
    rows: usize,
    score: f64,
    truth: Estimate,
}

impl Stage for Reliability {
    const KIND: &'static str = "evaluate.reliability";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Say what completions are truly worth, by bands of their score.

Bands hold as many completions each; those of equal score stay together. `calibration_error` is the mean distance of score and truth \
over bands, weighted by rows, for scores that are to be the truth itself; `auroc` how often what is right has the higher score than what is \
wrong. Intervals hold 95 % and take completions as independent.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let all = read("rollouts", &inputs.rollouts.source)?;
        let pairs = all.iter().enumerate().map(|(at, it)| {
            let value = |name: &str| {
                value(it, name).ok_or_else(|| {
                    StageError::refused(format!(
                        "row {} of `rollouts` has no reward `{name}`",
                        at + 1
                    ))
                })
            };
            Ok((value(&params.score)?, value(&params.truth)?))
        });
        let pairs: Vec<(f64, f64)> = pairs.collect::<Result<_, StageError>>()?;
        let bands = banded(&pairs, params.bands);
        let mut told = Map::new();
        for (name, estimate) in measured(&pairs, &bands) {
            context.estimate(name, &estimate);
            told.insert(name.to_owned(), json!(estimate.value));
        }
        told.insert("bands".to_owned(), json!(bands));
        let text =
            serde_json::to_string_pretty(&Value::Object(told)).expect("numbers are JSON") + "\n";
        let write = |path: &std::path::Path, text: &[u8]| {
            fs::write(path, text).map_err(StageError::file(path))
        };
        write(&outputs.numbers.path, text.as_bytes())?;
        write(&outputs.table.path, csv(&bands).as_bytes())?;
        write(&outputs.report.path, params.markdown(&bands).as_bytes())?;
        let undrawn = |error: PlotError| StageError::refused(error.to_string());
        write(&outputs.plot.path, params.figure(&bands).svg().map_err(undrawn)?.as_bytes())
    }
}

fn value(it: &Trajectory, name: &str) -> Option<f64> {
    if name == "reward" { it.reward } else { it.rewards.get(name).copied() }
}

/// Bands in the order of their scores; what has the same score as the last of a band is of it, too.
fn banded(pairs: &[(f64, f64)], bands: usize) -> Vec<Band> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = Vec::new();
    let mut start = 0;
    while start < sorted.len() {
        let left = bands.saturating_sub(found.len()).max(1);
        let mut end = start + (sorted.len() - start).div_ceil(left);
        while end < sorted.len() && sorted[end].0.total_cmp(&sorted[end - 1].0).is_eq() {
            end += 1;
        }
        let own = &sorted[start..end];
        let truths: Vec<f64> = own.iter().map(|it| it.1).collect();
        if let Some(truth) = mean_of(&truths) {
            let score = mean(&own.iter().map(|it| it.0).collect::<Vec<_>>());
            found.push(Band { rows: own.len(), score, truth });
        }
        start = end;
    }
    found
}

/// What it comes to, as far as it can be said.
fn measured(pairs: &[(f64, f64)], bands: &[Band]) -> Vec<(&'static str, Estimate)> {
    let (scores, truths): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let plain = |value| Estimate { value, interval: None };
    let is = |it: &f64, what: f64| (it - what).abs() < f64::EPSILON;
    let binary = truths.iter().all(|it| is(it, 0.0) || is(it, 1.0));
    let right: Vec<bool> = truths.iter().map(|it| is(it, 1.0)).collect();
    let apart = |it: &Band| it.rows as f64 * (it.score - it.truth.value).abs();
    let error = bands.iter().map(apart).sum::<f64>() / pairs.len().max(1) as f64;
    let ratio = mean(&scores) / mean(&truths);
    [
        ("auroc", binary.then(|| area(&scores, &right)).flatten()),
        ("correlation", correlation(&scores, &truths).map(plain)),
        ("ratio", ratio.is_finite().then(|| plain(ratio))),
        ("calibration_error", Some(plain(error))),
    ]
    .into_iter()
    .filter_map(|(name, it)| Some((name, it?)))
    .collect()
}

fn csv(bands: &[Band]) -> String {
    let mut text = "rows,score,truth,truth_low,truth_high\n".to_owned();
    for Band { rows, score, truth } in bands {
        let bounds = truth.interval.map_or(",".to_owned(), |it| format!("{},{}", it.low, it.high));
        let _ = writeln!(text, "{rows},{score},{},{bounds}", truth.value);
    }
    text
}

impl Params {
    fn markdown(&self, bands: &[Band]) -> String {
        let mut text = format!(
            "# {}\n\n| {} | {} | completions |\n| --: | --: | --: |\n",
            self.title, self.score, self.truth
        );
        for Band { rows, score, truth } in bands {
            let bounds = truth
                .interval
                .map_or(String::new(), |it| format!(" ({:.3} to {:.3})", it.low, it.high));
            let _ = writeln!(text, "| {score:.3} | {:.3}{bounds} | {rows} |", truth.value);
        }
        text + "\nMeans of bands in the order of the score. Intervals hold 95 %.\n"
    }

    fn figure(&self, bands: &[Band]) -> Figure {
        let point = |it: &Band| Point {
            x: it.score,
            y: it.truth.value,
            interval: it.truth.interval.map(|it| (it.low, it.high)),
            name: String::new(),
        };
        Figure {
            title: self.title.clone(),
            x: self.score.clone(),
            y: format!("{}, 95 % interval", self.truth),
            from_zero: false,
            series: vec![Series {
                name: "bands".to_owned(),
                points: bands.iter().map(point).collect(),
                look: Look::Path,
            }],
            level: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_have_as_many_rows_and_equal_scores_stay_together() {
        let pairs = [(3.0, 1.0), (1.0, 0.0), (2.0, 1.0), (2.0, 0.0), (4.0, 1.0), (2.0, 0.0)];
        let bands = banded(&pairs, 3);
        let told: Vec<_> = bands.iter().map(|it| (it.rows, it.score, it.truth.value)).collect();
        // 1 and the three 2s; then 3; then 4.
        assert_eq!(told, [(4, 1.75, 0.25), (1, 3.0, 1.0), (1, 4.0, 1.0)]);
        assert_eq!(banded(&pairs, 1).len(), 1);
        assert_eq!(banded(&[], 3), []);
    }

    #[test]
    fn numbers_are_said_as_far_as_they_can_be() {
        let told = |pairs: &[(f64, f64)]| {
            let found = measured(pairs, &banded(pairs, 2));
            found.into_iter().map(|(name, it)| (name, it.value)).collect::<Vec<_>>()
        };
        let of =
            |all: &[(&str, f64)], name: &str| all.iter().find(|it| it.0 == name).map(|it| it.1);
        let found = told(&[(0.1, 0.0), (0.3, 1.0), (0.5, 0.0), (0.9, 1.0)]);
        // Three of four pairs of a right and a wrong one are ranked.
        assert_eq!(of(&found, "auroc"), Some(0.75));
        assert!((of(&found, "ratio").unwrap() - 0.9).abs() < 1e-12);
        // Bands: 0.2 against ½, 0.7 against ½.
        assert!((of(&found, "calibration_error").unwrap() - 0.25).abs() < 1e-12);
        let of_numbers = told(&[(1.0, 0.5), (2.0, 2.5)]);
        assert_eq!(of(&of_numbers, "auroc"), None);
        assert!((of(&of_numbers, "correlation").unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(of(&told(&[(1.0, 0.0), (2.0, 0.0)]), "ratio"), None);
    }
}
