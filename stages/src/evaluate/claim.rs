//! `evaluate.claim`: a statement that numbers bear out or do not: a statistic over replicates, its interval, a threshold.
//!
//! That a claim does not hold is a result like any other, and no error: it is a metric, which `gradus test` can hold.

use std::{fmt::Write as _, fs};

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    curve::Steps,
    label::quoted,
    numbers::{Number, Which, numbers},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::statistics::{Estimate, mean_of},
    port::{Many, Out, ports},
    rules::{param, rule},
    stage::Stage,
};

/// Check a claim.
pub(crate) struct Claim;

/// On which side of the threshold a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Direction {
    /// At the threshold or above.
    AtLeast,
    /// At the threshold or below.
    AtMost,
}

/// What must be beyond the threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// The mean.
    #[default]
    Mean,
    /// All of its interval: what chance alone may have made does not pass.
    Interval,
}

/// How a candidate is held against its baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Against {
    /// Candidate less baseline.
    #[default]
    Difference,
    /// Candidate divided by baseline.
    Ratio,
    /// How far the two are apart, whichever is the larger.
    Distance,
    /// Of rates: what the candidate misses of 1, divided by what the baseline misses.
    ErrorRatio,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct Params {
    /// What is claimed, in words.
    statement: String,
    #[serde(flatten)]
    which: Which,
    /// The number of the baseline, where it is another than `metric`: what is expected, say, against what is so.
    #[serde(default)]
    #[schemars(extend("neutral" = ""))]
    baseline_metric: String,
    /// What a candidate is held against its baseline by.
    #[serde(default)]
    against: Against,
    /// The axis whose values are replicates. With a baseline each candidate is held against that of the same value.
    #[serde(default = "seed")]
    over: String,
    /// On which side of the threshold the claim holds.
    direction: Direction,
    /// Where it begins to hold; of a difference, in units of the metric.
    threshold: f64,
    /// What must be beyond the threshold.
    #[serde(default)]
    by: By,
    /// So many replicates must each be beyond `beyond` as well, on the side of `direction`.
    #[serde(default)]
    replicates_beyond: usize,
    /// What single replicates must be beyond; 0 by default, of ratios 1.
    #[serde(default)]
    beyond: Option<f64>,
}

fn seed() -> String {
    "seed".to_owned()
}

ports!(Inputs {
    /// What the claim is about, a replicate each.
    candidates: Many<artifact::Numbers>,
    /// What they are held against: a replicate each, or one for all.
    baseline: Option<Many<artifact::Numbers>>,
});
ports!(Outputs {
    /// The claim with all its numbers, as JSON.
    claim: Out<artifact::Claimed>,
    /// The same for people.
    report: Out<artifact::Report>,
});

/// One replicate.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Replicate {
    name: String,
    candidate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    /// The candidate, less the baseline.
    value: f64,
}

/// What is written.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    gradus_claim: u32,
    statement: &'a str,
    metric: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    baseline_metric: &'a str,
    steps: &'a Steps,
    against: Against,
    over: &'a str,
    direction: Direction,
    threshold: f64,
    by: By,
    holds: bool,
    estimate: Estimate,
    beyond: f64,
    replicates_beyond: usize,
    replicates: &'a [Replicate],
}

impl Stage for Claim {
    const KIND: &'static str = "evaluate.claim";
    const REVISION: u32 = 2;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Say whether numbers bear a claim out: a mean over replicates, its interval, a threshold.

With a baseline the differences are paired by the axis `over`, so that what a seed does to both is not counted. \
`holds` is 1 or 0; the interval holds 95 % (Student's t over replicates), and a single replicate has none. \
A candidate and a baseline that were not measured alike are refused; replicates may each \
have prompts and judges of their own.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![rule("`statement` says nothing", [param("statement").is([""])])]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let candidates = numbers("candidates", &inputs.candidates, &params.which)?;
        let baseline = inputs.baseline.as_ref();
        if !params.baseline_metric.is_empty() && inputs.baseline.is_none() {
            return Err(StageError::refused(
                "`baseline_metric` is a number of the `baseline`, and none came in",
            ));
        }
        let mut theirs = params.which.clone();
        if !params.baseline_metric.is_empty() {
            theirs.metric.clone_from(&params.baseline_metric);
        }
        let baseline = baseline.map(|it| numbers("baseline", it, &theirs)).transpose()?;
        let replicates = paired(&candidates, baseline.as_deref(), &params.over, params.against)?;
        let values: Vec<f64> = replicates.iter().map(|it| it.value).collect();
        let estimate =
            mean_of(&values).ok_or_else(|| StageError::refused("no candidate came in"))?;
        let sign = if params.direction == Direction::AtLeast { 1.0 } else { -1.0 };
        let ratios = matches!(params.against, Against::Ratio | Against::ErrorRatio);
        let alike = if baseline.is_some() && ratios { 1.0 } else { 0.0 };
        let beyond = params.beyond.unwrap_or(alike);
        let count = values.iter().filter(|value| (**value - beyond) * sign > 0.0).count();
        let holds = params.holds(&estimate)? && count >= params.replicates_beyond;
        let verdict = Verdict {
            gradus_claim: 1,
            statement: &params.statement,
            metric: &params.which.metric,
            baseline_metric: &params.baseline_metric,
            steps: &params.which.steps,
            against: params.against,
            over: &params.over,
            direction: params.direction,
            threshold: params.threshold,
            by: params.by,
            holds,
            estimate,
            beyond,
            replicates_beyond: count,
            replicates: &replicates,
        };
        context.summary("holds", f64::from(holds));
        context.estimate("value", &estimate);
        context.summary("threshold", params.threshold);
        context.summary("replicates", values.len() as f64);
        context.summary("replicates_beyond", count as f64);
        let json = serde_json::to_string_pretty(&verdict).expect("a verdict is JSON") + "\n";
        fs::write(&outputs.claim.path, json).map_err(StageError::file(&outputs.claim.path))?;
        let report = report(&verdict);
        fs::write(&outputs.report.path, report).map_err(StageError::file(&outputs.report.path))
    }
}

impl Params {
    fn holds(&self, estimate: &Estimate) -> Result<bool, StageError> {
        let bound = match (self.by, estimate.interval) {
            (By::Mean, _) => estimate.value,
            (By::Interval, Some(interval)) => match self.direction {
                Direction::AtLeast => interval.low,
                Direction::AtMost => interval.high,
            },
            (By::Interval, None) => {
                return Err(StageError::refused(
                    "a single replicate has no interval: give more, or say `by: mean`",
                ));
            }
        };
        Ok(match self.direction {
            Direction::AtLeast => bound >= self.threshold,
            Direction::AtMost => bound <= self.threshold,
        })
    }
}

/// Every candidate, with the baseline of the same value of `axis` if there is a baseline.
fn paired(
    candidates: &[Number],
    baseline: Option<&[Number]>,
    axis: &str,
    against: Against,
) -> Result<Vec<Replicate>, StageError> {
    let known = |numbers: &[Number]| {
        quoted(&numbers.iter().map(|it| it.label.to_string()).collect::<Vec<_>>())
    };
    if candidates.len() > 1 {
        let values: Vec<_> = candidates.iter().map(|it| it.label.value(axis)).collect();
        let mut apart: Vec<_> = values.iter().flatten().collect();
        apart.sort_unstable();
        apart.dedup();
        if apart.len() < candidates.len() {
            return Err(StageError::refused(format!(
                "candidates do not all differ in `{axis}`, which `over` names: {}",
                known(candidates)
            )));
        }
    }
    let replicate = |candidate: &Number| {
        let value = candidate.label.value(axis);
        let own = match baseline {
            None => None,
            Some([only]) => Some(only),
            Some(all) => {
                let same: Vec<_> = all.iter().filter(|it| it.label.value(axis) == value).collect();
                let [own] = same[..] else {
                    return Err(StageError::refused(format!(
                        "`{}` has {} in the baseline with the same `{axis}`: there are {}",
                        candidate.label,
                        if same.is_empty() { "none" } else { "several" },
                        known(all)
                    )));
                };
                Some(own)
            }
        };
        own.map_or(Ok(()), |own| candidate.comparable(own))?;
        let baseline = own.map(|it| it.value);
        let held = match (baseline, against) {
            (None, _) => candidate.value,
            (Some(baseline), Against::Difference) => candidate.value - baseline,
            (Some(baseline), Against::Ratio) => candidate.value / baseline,
            (Some(baseline), Against::Distance) => (candidate.value - baseline).abs(),
            (Some(baseline), Against::ErrorRatio) => (1.0 - candidate.value) / (1.0 - baseline),
        };
        if !held.is_finite() {
            return Err(StageError::refused(format!(
                "`{}` cannot be divided by its baseline, which leaves nothing to divide by: say `against: difference`",
                candidate.label
            )));
        }
        Ok(Replicate {
            name: value.map_or(candidate.label.to_string(), str::to_owned),
            candidate: candidate.value,
            baseline,
            value: held,
        })
    };
    candidates.iter().map(replicate).collect()
}

fn report(verdict: &Verdict<'_>) -> String {
    let mut text = String::new();
    let word = if verdict.holds { "holds" } else { "does not hold" };
    let side = if verdict.direction == Direction::AtLeast { "at least" } else { "at most" };
    let bound = if verdict.by == By::Interval { "all of its interval" } else { "the mean" };
    let interval = verdict
        .estimate
        .interval
        .map_or(String::new(), |it| format!(" ({:.4} to {:.4})", it.low, it.high));
    let paired = verdict.replicates.iter().any(|it| it.baseline.is_some());
    // Writing into a `String` cannot fail.
    let _ = writeln!(text, "# {}: {word}\n", verdict.statement);
    let _ = writeln!(
        text,
        "{}{}{} over {}: {:.4}{interval}; {bound} is to be {side} {}.\n",
        verdict.metric,
        match verdict.baseline_metric {
            "" => String::new(),
            other => format!(" against {other}"),
        },
        match (paired, verdict.against) {
            (false, _) => "",
            (true, Against::Difference) => ", candidate less baseline,",
            (true, Against::Ratio) => ", candidate divided by baseline,",
            (true, Against::ErrorRatio) =>
                ", what the candidate misses of 1 divided by what the baseline misses,",
            (true, Against::Distance) => ", distance of candidate and baseline,",
        },
        verdict.over,
        verdict.estimate.value,
        verdict.threshold
    );
    let _ = writeln!(text, "| {} | candidate | baseline | value |", verdict.over);
    let _ = writeln!(text, "| :-- | --: | --: | --: |");
    for it in verdict.replicates {
        let baseline = it.baseline.map_or("–".to_owned(), |value| format!("{value:.4}"));
        let _ =
            writeln!(text, "| {} | {:.4} | {baseline} | {:.4} |", it.name, it.candidate, it.value);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::label, *};
    use crate::nn::statistics::Interval;

    fn number(label: &str, value: f64) -> Number {
        Number { label: label::read(&[label.to_owned()]).remove(0), value, measured: None }
    }

    #[test]
    fn candidates_are_held_against_the_baseline_of_their_seed() {
        let candidates = [number("a[seed=0]", 1.0), number("a[seed=1]", 3.0)];
        let values = |baseline: Option<&[Number]>| {
            let found = paired(&candidates, baseline, "seed", Against::Difference);
            found
                .map(|it| it.iter().map(|it| it.value).collect::<Vec<_>>())
                .map_err(|it| it.to_string())
        };
        assert_eq!(values(None), Ok(vec![1.0, 3.0]));
        assert_eq!(values(Some(&[number("b", 0.5)])), Ok(vec![0.5, 2.5]));
        let ratios = paired(&candidates, Some(&[number("b", 0.5)]), "seed", Against::Ratio);
        assert_eq!(ratios.unwrap().iter().map(|it| it.value).collect::<Vec<_>>(), [2.0, 6.0]);
        let swapped = [number("b[seed=1]", 2.0), number("b[seed=0]", 0.25)];
        assert_eq!(values(Some(&swapped)), Ok(vec![0.75, 1.0]));
        let other = [number("b[seed=1]", 2.0), number("b[seed=2]", 0.25)];
        insta::assert_snapshot!(values(Some(&other)).unwrap_err(), @"
    `a[seed=0]` has none in the baseline with the same `seed`: there are `b[seed=1]`, `b[seed=2]`
    ");
        let whole = paired(&candidates, Some(&[number("b", 1.0)]), "seed", Against::ErrorRatio);
        insta::assert_snapshot!(whole.unwrap_err(), @"
    `a[seed=0]` cannot be divided by its baseline, which leaves nothing to divide by: say `against: difference`
    ");
        let twice = [number("a[beta=1]", 1.0), number("a[beta=2]", 3.0)];
        insta::assert_snapshot!(paired(&twice, None, "seed", Against::Ratio).unwrap_err(), @"
    candidates do not all differ in `seed`, which `over` names: `a[beta=1]`, `a[beta=2]`
    ");
    }

    #[test]
    fn a_claim_holds_by_its_mean_or_by_all_of_its_interval() {
        let params = |direction: &str, by: &str, threshold: f64| -> Params {
            let text = json!({
                "statement": "s", "metric": "m", "direction": direction, "by": by, "threshold": threshold,
            });
            serde_json::from_value(text).unwrap()
        };
        let estimate = Estimate { value: 0.5, interval: Some(Interval { low: 0.25, high: 0.75 }) };
        let holds =
            |direction, by, threshold| params(direction, by, threshold).holds(&estimate).unwrap();
        assert!(holds("at_least", "mean", 0.5) && !holds("at_least", "mean", 0.51));
        assert!(holds("at_least", "interval", 0.25) && !holds("at_least", "interval", 0.3));
        assert!(holds("at_most", "mean", 0.5) && !holds("at_most", "mean", 0.4));
        assert!(holds("at_most", "interval", 0.75) && !holds("at_most", "interval", 0.7));
        let single = Estimate { value: 0.5, interval: None };
        let error = params("at_least", "interval", 0.0).holds(&single).unwrap_err().to_string();
        assert!(error.contains("a single replicate"), "{error}");
    }
}
