//! Candidates over replicates, told: as tables, and as performance profiles.

use std::fmt::Write as _;

use gradus_plot::{Figure, Look, Point, Series};
use serde::Serialize;

use crate::{
    error::StageError,
    nn::{bootstrap::Scores, statistics::Estimate},
};

/// What is said of a candidate.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) baseline: bool,
    pub(super) interquartile_mean: Estimate,
    pub(super) mean: Estimate,
    pub(super) median: Estimate,
    /// How often a run is better than one of the baseline's.
    pub(super) improvement: Option<Estimate>,
    /// What its tasks are called; one without a name where there are none.
    pub(super) strata: Vec<String>,
    /// The number of every run, by stratum.
    pub(super) scores: Scores,
}

/// What is told of candidates.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    #[serde(skip)]
    pub(super) title: &'a str,
    pub(super) metric: &'a str,
    pub(super) over: &'a str,
    pub(super) strata: &'a [String],
    pub(super) lower_is_better: bool,
    pub(super) resamples: usize,
    /// Best first.
    pub(super) rows: &'a [Row],
}

/// Below so many runs of a candidate the bootstrap holds less than it says; `nn/coverage.rs` has how much.
const FEW: usize = 10;

impl Row {
    fn runs(&self) -> usize {
        self.scores.iter().map(Vec::len).sum()
    }

    fn columns(&self) -> [(&'static str, Option<Estimate>); 4] {
        [
            ("interquartile_mean", Some(self.interquartile_mean)),
            ("mean", Some(self.mean)),
            ("median", Some(self.median)),
            ("improvement", self.improvement),
        ]
    }
}

pub(super) fn json(told: &Told) -> String {
    serde_json::to_string_pretty(told).expect("names and numbers are JSON") + "\n"
}

pub(super) fn csv(told: &Told) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["name".to_owned(), "baseline".to_owned()];
    let columns = told.rows.first().map(Row::columns).into_iter().flatten();
    header.extend(
        columns.flat_map(|(name, _)| ["", "_low", "_high"].map(|end| format!("{name}{end}"))),
    );
    header.extend(["strata", "runs"].map(str::to_owned));
    table.write_record(header).map_err(|error| wrong(error.to_string()))?;
    for row in told.rows {
        let mut record = vec![row.name.clone(), row.baseline.to_string()];
        for (_, found) in row.columns() {
            let bounds = found.and_then(|it| it.interval);
            let numbers =
                [found.map(|it| it.value), bounds.map(|it| it.low), bounds.map(|it| it.high)];
            record.extend(numbers.map(|it| it.map_or(String::new(), |it| it.to_string())));
        }
        record.extend([row.strata.len(), row.runs()].map(|count| count.to_string()));
        table.write_record(record).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

pub(super) fn markdown(told: &Told) -> String {
    let baseline = told.rows.iter().find(|row| row.baseline);
    let versus = baseline.map(|it| format!(" better than {} |", it.name)).unwrap_or_default();
    let tasks = if told.strata.is_empty() { "" } else { " tasks |" };
    let mut text = format!("# {}\n\n", told.title);
    let _ = writeln!(text, "| {} | IQM | mean | median |{versus}{tasks} runs |", told.metric);
    let columns = 4 + usize::from(baseline.is_some()) + usize::from(!told.strata.is_empty());
    let _ = writeln!(text, "| :-- |{}", " --: |".repeat(columns));
    for row in told.rows {
        let note = if row.baseline { " (baseline)" } else { "" };
        let _ = write!(text, "| {}{note} |", row.name.replace('|', "\\|"));
        for estimate in [row.interquartile_mean, row.mean, row.median] {
            let _ = write!(text, " {} |", number(&estimate));
        }
        if baseline.is_some() {
            let share = row.improvement.as_ref().map_or("–".to_owned(), percent);
            let _ = write!(text, " {share} |");
        }
        if !told.strata.is_empty() {
            let _ = write!(text, " {} |", row.strata.len());
        }
        let _ = writeln!(text, " {} |", row.runs());
    }
    text + &legend(told)
}

fn number(estimate: &Estimate) -> String {
    let bounds = estimate.interval;
    let bounds = bounds.map_or(String::new(), |it| format!(" ({:.3} to {:.3})", it.low, it.high));
    format!("{:.3}{bounds}", estimate.value)
}

fn percent(share: &Estimate) -> String {
    let bounds = share.interval.map_or("(–)".to_owned(), |it| {
        format!("({:.0} to {:.0})", 100.0 * it.low, 100.0 * it.high)
    });
    format!("{:.0} % {bounds}", 100.0 * share.value)
}

/// What the numbers mean, as far as they are there.
fn legend(told: &Told) -> String {
    let mut text = "\n".to_owned();
    let within = if told.strata.is_empty() { "" } else { " within each task" };
    let _ = writeln!(
        text,
        "Runs of a candidate differ in `{}`. The IQM is the mean of the middle half of them. Intervals hold 95 %: runs drawn anew\n\
         {} times{within} (stratified bootstrap, Agarwal et al. 2021), widened for few runs (Hesterberg 2015). A single run has none.",
        told.over, told.resamples
    );
    if told.strata.is_empty() {
        text += "The median is of all runs.\n";
    } else {
        let _ = writeln!(
            text,
            "Tasks are points of {}; the median is of their means.",
            super::label::quoted(told.strata)
        );
    }
    if told.rows.iter().any(|row| row.improvement.is_some()) {
        text += "`better than` is how often a run is better than one of the baseline's on the same task; ties count half. Where all pairs \
                 agree,\nthere is no interval: drawn anew they agree again.\n";
    }
    if told.lower_is_better {
        text += "Lower is better.\n";
    }
    if let Some(fewest) = told.rows.iter().map(Row::runs).min().filter(|fewest| *fewest < FEW) {
        let _ = writeln!(
            text,
            "Of {fewest} runs bounds lie within what was seen, so the intervals hold less than they say. `evaluate.claim` has Student's t, \
             and\npairs candidates by `{}`.",
            told.over
        );
    }
    text
}

/// The share of a candidate's runs at or above each number: its performance profile (Agarwal et al. 2021, section 4.2), from 1 at the
/// lowest number of all candidates to 0 behind its own highest.
pub(super) fn figure(told: &Told) -> Figure {
    let all = || told.rows.iter().flat_map(|row| row.scores.iter().flatten().copied());
    let (lowest, highest) =
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let series = told.rows.iter().map(|row| {
        let steps = steps(row.scores.iter().flatten().copied().collect(), [lowest, highest]);
        let point = |(x, y)| Point { x, y, interval: None, name: String::new() };
        let note = if row.baseline { " (baseline)" } else { "" };
        Series {
            name: format!("{}{note}", row.name),
            points: steps.into_iter().map(point).collect(),
            look: Look::Curve,
        }
    });
    Figure {
        title: told.title.to_owned(),
        x: told.metric.replace('_', " "),
        y: "share of runs at or above it".to_owned(),
        from_zero: false,
        series: series.collect(),
        level: None,
    }
}

/// The corners of a staircase from `from` to `to`, down by one run's share behind each number.
fn steps(mut scores: Vec<f64>, [from, to]: [f64; 2]) -> Vec<(f64, f64)> {
    scores.sort_by(f64::total_cmp);
    let share = |left: usize| left as f64 / scores.len() as f64;
    let mut found = vec![(from, 1.0)];
    for (index, score) in scores.iter().enumerate() {
        let left = scores.len() - index;
        found.extend([(*score, share(left)), (*score, share(left - 1))]);
    }
    found.push((to, 0.0));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::statistics::Interval;

    fn told(strata: &[String], tell: impl Fn(&Told) -> String) -> String {
        let row = |name: &str, value: f64, improvement: Option<f64>| {
            let estimate = |value: f64| Estimate {
                value,
                interval: Some(Interval { low: value - 0.125, high: value + 0.125 }),
            };
            let single = |value| Estimate { value, interval: None };
            Row {
                name: name.to_owned(),
                baseline: improvement.is_none(),
                interquartile_mean: estimate(value),
                mean: estimate(value + 0.01),
                median: single(value),
                improvement: improvement.map(|it| if it < 1.0 { estimate(it) } else { single(it) }),
                strata: if strata.is_empty() { vec![String::new()] } else { strata.to_vec() },
                scores: vec![vec![value, value + 0.5, value + 0.25]; strata.len().max(1)],
            }
        };
        let rows = [row("a|b", 1.0, Some(1.0)), row("c", 0.5, Some(0.75)), row("sft", 0.25, None)];
        tell(&Told {
            title: "Over seeds",
            metric: "true_reward",
            over: "seed",
            strata,
            lower_is_better: false,
            resamples: 10_000,
            rows: &rows,
        })
    }

    #[test]
    fn the_report_has_a_line_per_candidate_and_says_what_numbers_mean() {
        insta::assert_snapshot!(told(&[], markdown));
    }

    #[test]
    fn tasks_are_counted() {
        let text = told(&["task=x".to_owned(), "task=y".to_owned()], markdown);
        let line = text.lines().find(|line| line.starts_with("| c |")).unwrap();
        assert!(line.ends_with("| 2 | 6 |"), "{line}");
    }

    #[test]
    fn the_table_has_all_bounds() {
        insta::assert_snapshot!(told(&[], |told| csv(told).unwrap()), @"
    name,baseline,interquartile_mean,interquartile_mean_low,interquartile_mean_high,mean,mean_low,mean_high,median,median_low,median_high,improvement,improvement_low,improvement_high,strata,runs
    a|b,false,1,0.875,1.125,1.01,0.885,1.135,1,,,1,,,1,3
    c,false,0.5,0.375,0.625,0.51,0.385,0.635,0.5,,,0.75,0.625,0.875,1,3
    sft,true,0.25,0.125,0.375,0.26,0.135,0.385,0.25,,,,,,1,3
    ");
    }

    #[test]
    fn a_profile_goes_down_by_a_runs_share_behind_each_number() {
        let half = 0.5;
        let known = [(0.0, 1.0), (1.0, 1.0), (1.0, half), (2.0, half), (2.0, 0.0), (4.0, 0.0)];
        assert_eq!(steps(vec![2.0, 1.0], [0.0, 4.0]), known);
    }
}
