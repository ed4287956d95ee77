//! `evaluate.replicates`: candidates over several runs, with intervals that say what the seed alone may have done (Agarwal et al.
//! 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice").
//!
//! Runs that differ in the axis `over` are replicates of one candidate, points of the axes in `strata` are tasks. `evaluate.compare` shows
//! one experiment and `evaluate.claim` holds one statement to it; this says how sure a ranking of candidates is.

use std::{collections::BTreeMap, fs, path::Path};

use gradus_plot::PlotError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    label::{Label, named, quoted},
    numbers::{Number, Which, numbers},
    profile::{Row, Told, csv, figure, json, markdown},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::bootstrap::{Aggregate, Scores, improved},
    port::{Many, Out, ports},
    stage::Stage,
};

/// Compare candidates over replicates.
pub(crate) struct Replicates;

/// Which of two numbers is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Better {
    /// The higher one.
    #[default]
    Higher,
    /// The lower one, as of a loss.
    Lower,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    which: Which,
    /// The axis whose values are runs of one candidate.
    #[serde(default = "seed")]
    over: String,
    /// The axes whose points are tasks, say `[task]`. Runs are drawn anew within each task, and every candidate needs the same
    /// ones. Numbers of all tasks must be on one scale, as rates are.
    #[serde(default)]
    strata: Vec<String>,
    /// Whether higher or lower numbers are better.
    #[serde(default)]
    better: Better,
    /// What candidates and baseline are called, by the stages that they come from. A stage's name stands for all its variants.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// How often runs are drawn anew for an interval. More make its bounds steadier from seed to seed.
    #[serde(default = "default_resamples")]
    #[schemars(range(min = 100, max = 1_000_000))]
    resamples: usize,
    /// The heading of the plot and the report.
    #[serde(default = "default_title")]
    title: String,
}

fn seed() -> String {
    "seed".to_owned()
}
fn default_resamples() -> usize {
    10_000
}
fn default_title() -> String {
    "Over replicates".to_owned()
}

ports!(Inputs {
    /// All runs of all candidates.
    candidates: Many<artifact::Numbers>,
    /// Runs that the others are held against; they may be among the candidates.
    baseline: Option<Many<artifact::Numbers>>,
});
ports!(Outputs {
    /// One row per candidate, best first, as Markdown.
    report: Out<artifact::Report>,
    /// The same as CSV.
    table: Out<artifact::Table>,
    /// The same as JSON, with every run's number.
    comparison: Out<artifact::Comparison>,
    /// The share of runs at or above each number, a line per candidate (performance profiles, ibid. section 4.2).
    plot: Out<artifact::Plot>,
    /// The same plot as PNG.
    picture: Out<artifact::Picture>,
});

impl Stage for Replicates {
    const KIND: &'static str = "evaluate.replicates";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const DOC: &'static str = "Compare candidates over several runs: mean, median and interquartile mean, with bootstrapped intervals.

Runs are drawn anew within each task (stratified bootstrap, Agarwal et al. 2021), and intervals hold 95 %, widened for few runs \
(Hesterberg 2015); a single run has none. The probability of improvement is how often a run is better than one of the \
baseline's on the same task, ties counting half. Runs of one task must be of one metric on one scale; runs of the same value of \
`over` are refused where they were not measured alike. Differences that are paired by seed are `evaluate.claim`'s.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let candidates = candidates(&params, &inputs)?;
        let mut rows = Vec::new();
        let baseline = candidates.iter().find(|it| it.baseline);
        let mut streams = context.stream("bootstrap");
        for (number, candidate) in candidates.iter().enumerate() {
            context.heard()?;
            let mut draws = streams.at(number);
            let mut over_runs = |aggregate: Aggregate, purpose: &str| {
                let mut draw = draws.named(purpose).generator();
                aggregate.estimate(&candidate.scores, params.resamples, &mut draw)
            };
            let interquartile_mean = over_runs(Aggregate::InterquartileMean, "interquartile mean");
            let mean = over_runs(Aggregate::Mean, "mean");
            let median = over_runs(Aggregate::Median, "median");
            let rival = baseline.filter(|_| !candidate.baseline);
            let mut draw = draws.named("improvement").generator();
            let improvement = rival.map(|rival| {
                let sides = match params.better {
                    Better::Higher => [&candidate.scores, &rival.scores],
                    Better::Lower => [&rival.scores, &candidate.scores],
                };
                improved(sides, params.resamples, &mut draw)
            });
            rows.push(Row {
                name: candidate.label.to_string(),
                baseline: candidate.baseline,
                interquartile_mean,
                mean,
                median,
                improvement,
                strata: candidate.strata.clone(),
                scores: candidate.scores.clone(),
            });
        }
        let sign = if params.better == Better::Higher { -1.0 } else { 1.0 };
        let value = |row: &Row| sign * row.interquartile_mean.value;
        rows.sort_by(|a, b| value(a).total_cmp(&value(b)));
        for row in &rows {
            context.estimate(&format!("{}.iqm", row.name), &row.interquartile_mean);
            if let Some(improvement) = &row.improvement {
                context.estimate(&format!("{}.improvement", row.name), improvement);
            }
        }
        let told = Told {
            title: &params.title,
            metric: &params.which.metric,
            over: &params.over,
            strata: &params.strata,
            lower_is_better: params.better == Better::Lower,
            resamples: params.resamples,
            rows: &rows,
        };
        let write =
            |path: &Path, content: &[u8]| fs::write(path, content).map_err(StageError::file(path));
        let undrawn = |error: PlotError| StageError::refused(error.to_string());
        let figure = figure(&told);
        write(&outputs.report.path, markdown(&told).as_bytes())?;
        write(&outputs.table.path, csv(&told)?.as_bytes())?;
        write(&outputs.comparison.path, json(&told).as_bytes())?;
        write(&outputs.plot.path, figure.svg().map_err(undrawn)?.as_bytes())?;
        write(&outputs.picture.path, &figure.png().map_err(undrawn)?)
    }
}

/// A candidate with all its runs.
#[derive(Debug)]
struct Candidate {
    label: Label,
    baseline: bool,
    /// The points of the axes in `strata`, in order.
    strata: Vec<String>,
    scores: Scores,
}

/// A run: its number, whether it is the baseline's, and where it stands.
struct Run {
    number: Number,
    baseline: bool,
    candidate: Label,
    stratum: String,
    replicate: Option<String>,
}

/// The candidates in the order in which they came in, the baseline last if it is none of them.
fn candidates(params: &Params, inputs: &Inputs) -> Result<Vec<Candidate>, StageError> {
    let mut found = numbers("candidates", &inputs.candidates, &params.which)?;
    let mut names: Vec<String> = inputs.candidates.0.iter().map(|(name, _)| name.clone()).collect();
    let mut of_baseline = vec![false; found.len()];
    if let Some(baseline) = &inputs.baseline {
        let more = numbers("baseline", baseline, &params.which)?;
        for ((name, artifact), number) in baseline.0.iter().zip(more) {
            let candidates = &inputs.candidates.0;
            let same =
                |it: &artifact::Numbers| it.source == artifact.source && it.label == artifact.label;
            if let Some(known) = candidates.iter().position(|(_, it)| same(it)) {
                of_baseline[known] = true;
            } else {
                found.push(number);
                names.push(name.clone());
                of_baseline.push(true);
            }
        }
    }
    let labels = named(&names, &params.labels)?;
    let runs = found.into_iter().zip(labels).zip(of_baseline);
    let runs = runs.map(|((number, label), baseline)| {
        let number = Number { label, ..number };
        params.placed(number, baseline)
    });
    let runs: Vec<Run> = runs.collect::<Result<_, _>>()?;
    params.comparable(&runs)?;
    params.grouped(&runs)
}

impl Params {
    /// A run at its place, by its label.
    fn placed(&self, number: Number, baseline: bool) -> Result<Run, StageError> {
        let label = &number.label;
        let mut candidate = label.without(&self.over);
        let mut points = Vec::new();
        for axis in &self.strata {
            let value = label.value(axis).ok_or_else(|| {
                StageError::refused(format!(
                    "`{label}` has no axis `{axis}`, which `strata` names: give its stage that axis in `matrix`, or take it out"
                ))
            })?;
            points.push(format!("{axis}={value}"));
            candidate = candidate.without(axis);
        }
        let replicate = label.value(&self.over).map(str::to_owned);
        Ok(Run { baseline, candidate, stratum: points.join(","), replicate, number })
    }

    /// Refuses runs whose numbers mean different things.
    fn comparable(&self, runs: &[Run]) -> Result<(), StageError> {
        for (index, one) in runs.iter().enumerate() {
            for other in runs[index + 1..].iter().filter(|it| it.stratum == one.stratum) {
                // What has no such axis is held against all runs of the others.
                let [own, theirs] = [&one.replicate, &other.replicate];
                if own == theirs || own.is_none() || theirs.is_none() {
                    one.number.comparable(&other.number)?;
                }
                if let Some((own, theirs)) =
                    one.number.measured.as_ref().zip(other.number.measured.as_ref())
                {
                    let names = [&one.number.label, &other.number.label].map(ToString::to_string);
                    own.same_scale(theirs, &self.which.metric, [&names[0], &names[1]])?;
                }
            }
        }
        Ok(())
    }

    /// Runs by candidate and stratum. All candidates have the same strata, and each as many runs in one as in the other.
    fn grouped(&self, runs: &[Run]) -> Result<Vec<Candidate>, StageError> {
        let mut groups: Vec<(&Label, BTreeMap<&str, Vec<&Run>>)> = Vec::new();
        for run in runs {
            let place = groups.iter().position(|(label, _)| **label == run.candidate);
            let place = place.unwrap_or_else(|| {
                groups.push((&run.candidate, BTreeMap::new()));
                groups.len() - 1
            });
            groups[place].1.entry(&run.stratum).or_default().push(run);
        }
        let mut found: Vec<Candidate> = Vec::new();
        for (label, strata) in groups {
            for (stratum, runs) in &strata {
                self.apart(label, stratum, runs)?;
            }
            let counts: Vec<usize> = strata.values().map(Vec::len).collect();
            let own: Vec<String> = strata.keys().map(ToString::to_string).collect();
            if counts.iter().any(|count| *count != counts[0]) {
                let each = own
                    .iter()
                    .zip(&counts)
                    .map(|(stratum, count)| format!("{count} of `{stratum}`"));
                return Err(StageError::refused(format!(
                    "`{label}` has not as many runs of each task, and one with more would weigh more: {}",
                    each.collect::<Vec<_>>().join(", ")
                )));
            }
            if let Some(other) = found.iter().find(|it| it.strata != own) {
                return Err(StageError::refused(format!(
                    "`{label}` and `{}` have not run on the same tasks: {} and {}",
                    other.label,
                    quoted(&own),
                    quoted(&other.strata)
                )));
            }
            let mut all = strata.values().flatten();
            let scores =
                strata.values().map(|runs| runs.iter().map(|it| it.number.value).collect());
            let scores: Scores = scores.collect();
            found.push(Candidate {
                label: label.clone(),
                baseline: all.any(|run| run.baseline),
                strata: own,
                scores,
            });
        }
        let several = found.iter().filter(|it| it.baseline).map(|it| it.label.to_string());
        let several: Vec<String> = several.collect();
        if several.len() > 1 {
            return Err(StageError::refused(format!(
                "`baseline` has several candidates, {}: name one, with all its runs",
                quoted(&several)
            )));
        }
        Ok(found)
    }

    /// Refuses runs of one candidate and task that no axis tells apart.
    fn apart(&self, label: &Label, stratum: &str, runs: &[&Run]) -> Result<(), StageError> {
        let mut values: Vec<_> = runs.iter().map(|run| &run.replicate).collect();
        values.sort();
        values.dedup();
        if values.len() == runs.len() {
            return Ok(());
        }
        let at = if stratum.is_empty() { String::new() } else { format!(" at `{stratum}`") };
        let names: Vec<String> = runs.iter().map(|run| run.number.label.to_string()).collect();
        Err(StageError::refused(format!(
            "runs of `{label}`{at} do not all differ in `{}`, which `over` names: {}",
            self.over,
            quoted(&names)
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{label, measured::tests::measured},
        *,
    };

    fn grouped(names: &[&str], baseline: &str, strata: &[&str]) -> Result<Vec<Candidate>, String> {
        let params = json!({ "metric": "true_reward", "strata": strata });
        let params: Params = serde_json::from_value(params).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let runs = label::read(&names).into_iter().enumerate().map(|(i, label)| {
            let baseline = label.stage == baseline;
            params.placed(Number { label, value: i as f64, measured: None }, baseline)
        });
        let found = runs.collect::<Result<Vec<_>, _>>().and_then(|runs| params.grouped(&runs));
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn runs_are_grouped_by_candidate_and_task() {
        let names = [
            "a[seed=0,task=x]",
            "a[seed=1,task=x]",
            "b[seed=0,task=x]",
            "a[seed=0,task=y]",
            "a[seed=1,task=y]",
            "b[seed=0,task=y]",
        ];
        let found = grouped(&names, "b", &["task"]).unwrap();
        let told: Vec<_> =
            found.iter().map(|it| (it.label.to_string(), it.baseline, it.scores.clone())).collect();
        let a = vec![vec![0.0, 1.0], vec![3.0, 4.0]];
        let b = vec![vec![2.0], vec![5.0]];
        assert_eq!(told, [("a".to_owned(), false, a), ("b".to_owned(), true, b)]);
        assert_eq!(found[0].strata, ["task=x", "task=y"]);
    }

    #[test]
    fn what_is_no_replicate_or_no_task_is_refused() {
        let refused = |names: &[&str], strata: &[&str]| grouped(names, "none", strata).unwrap_err();
        insta::assert_snapshot!(refused(&["a[beta=1]", "a[beta=1]"], &[]), @"runs of `a[beta=1]` do not all differ in `seed`, which `over` names: `a[beta=1]`, `a[beta=1]`");
        insta::assert_snapshot!(refused(&["a[seed=0]"], &["task"]), @"`a[seed=0]` has no axis `task`, which `strata` names: give its stage that axis in `matrix`, or take it out");
        let uneven = ["a[seed=0,task=x]", "a[seed=1,task=x]", "a[seed=0,task=y]"];
        insta::assert_snapshot!(refused(&uneven, &["task"]), @"`a` has not as many runs of each task, and one with more would weigh more: 2 of `task=x`, 1 of `task=y`");
        let other = ["a[seed=0,task=x]", "b[seed=0,task=y]"];
        insta::assert_snapshot!(refused(&other, &["task"]), @"`b` and `a` have not run on the same tasks: `task=y` and `task=x`");
    }

    #[test]
    fn runs_of_one_seed_are_refused_where_they_were_not_measured_alike() {
        let params: Params = serde_json::from_value(json!({ "metric": "true_reward" })).unwrap();
        let run = |name: &str, prompts: &[&str]| {
            let label = label::read(&[name.to_owned()]).remove(0);
            let measured = Some(measured(prompts));
            params.placed(Number { label, value: 0.0, measured }, false).unwrap()
        };
        let (own, other) = (["A lamp:"], ["A desk:"]);
        let alike = [run("a[seed=0]", &own), run("b[seed=0]", &own), run("a[seed=1]", &other)];
        params.comparable(&alike).unwrap();
        let unlike = [run("a[seed=0]", &own), run("b[seed=0]", &other)];
        let error = params.comparable(&unlike).unwrap_err().to_string();
        assert!(error.contains("`a[seed=0]` and `b[seed=0]` were measured differently"), "{error}");
    }
}
