//! The history of runs, and two of them beside each other.

use gradus_engine::{
    event::Outcome,
    run::{Comparison, MetricPair, OutputPair, RunRecord, StageComparison, Status, local_time},
};
use serde_json::json;

use super::{
    paint::{duration, harmless, number, pad},
    screen::Terminal,
};

impl Terminal {
    /// A line for each run; `all` is how many there are.
    pub(crate) fn runs(&self, runs: &[RunRecord], all: usize, is_pinned: &dyn Fn(&str) -> bool) {
        if self.json {
            let rows = runs.iter().map(|run| {
                json!({
                    "run": run.run, "pipeline": run.pipeline, "file": run.file,
                    "started": run.started, "seconds": run.seconds, "outcome": run.outcome,
                    "ran": run.count(Status::Finished), "cached": run.count(Status::Cached),
                    "failed": run.count(Status::Failed), "skipped": run.count(Status::Skipped),
                    "pinned": is_pinned(&run.run),
                })
            });
            return self.value(&rows.collect::<Vec<_>>());
        }
        if runs.is_empty() {
            return self.line("nothing has run yet");
        }
        let names = runs.iter().map(|it| it.pipeline.chars().count()).max().unwrap_or(0);
        let ids = runs.iter().map(|it| it.run.len()).max().unwrap_or(0);
        for run in runs {
            let took = if run.seconds > 0.0 { duration(run.seconds) } else { String::new() };
            let outcome = pad(outcome(run.outcome), 10);
            let outcome = match run.outcome {
                Some(Outcome::Done) => self.out.green(&outcome),
                Some(Outcome::Failed | Outcome::Broken) => self.out.red(&outcome),
                Some(Outcome::Cancelled) | None => self.out.yellow(&outcome),
            };
            let words = format!(
                "{}  {}  {}  {}  {outcome}  {}",
                self.out.bold(&pad(&run.run, ids)),
                pad(&harmless(&run.pipeline), names),
                local_time(run.started),
                pad(&took, 10),
                counts(run) + if is_pinned(&run.run) { ", pinned" } else { "" }
            );
            self.line(words.trim_end());
        }
        if runs.len() < all {
            let rest = format!("{} older: `--limit {all}` shows them", all - runs.len());
            self.line(&self.out.dim(&rest));
        }
    }

    /// How a rehearsal went.
    pub(crate) fn rehearsed(&self, record: &RunRecord) {
        if !self.json && record.outcome == Some(Outcome::Done) {
            self.line(
                "every stage ran through with little work; nothing of that is among your results",
            );
        }
    }

    /// What differs between two runs.
    pub(crate) fn comparison(&self, first: &RunRecord, second: &RunRecord, found: &Comparison) {
        if self.json {
            let name = |run: &RunRecord| {
                json!({
                    "run": run.run, "pipeline": run.pipeline, "started": run.started,
                    "seconds": run.seconds, "outcome": run.outcome,
                })
            };
            return self.value(&json!({
                "first": name(first), "second": name(second), "stages": found.stages,
                "only_first": found.only_first, "only_second": found.only_second,
            }));
        }
        for (mark, run) in [("A", first), ("B", second)] {
            let when = local_time(run.started);
            let (pipeline, how) = (harmless(&run.pipeline), outcome(run.outcome));
            self.line(&format!("{mark}  {}  {pipeline}  {when}  {how}", self.out.bold(&run.run)));
        }
        let (same, other): (Vec<_>, Vec<_>) = found.stages.iter().partition(|it| it.is_same());
        for stage in other {
            self.compared(stage);
        }
        if !same.is_empty() {
            let names: Vec<_> = same.iter().map(|it| it.stage.as_str()).collect();
            self.line(&format!("\nthe same in both: {}", names.join(", ")));
        }
        for (mark, names) in [("A", &found.only_first), ("B", &found.only_second)] {
            if !names.is_empty() {
                self.line(&format!("\nonly in {mark}: {}", names.join(", ")));
            }
        }
    }

    fn compared(&self, stage: &StageComparison) {
        let kind = self.out.dim(&stage.kind);
        self.line(&format!("\n{}  {kind}", self.out.bold(&stage.stage)));
        match &stage.rows {
            Some(rows) => {
                for row in rows {
                    self.line(&format!("  {}", self.out.yellow(&harmless(&row.to_string()))));
                }
            }
            None => self.line("  what it was made from is not known in both runs"),
        }
        for OutputPair { name, first, second, same } in &stage.outputs {
            let word = match (first, second) {
                (Some(_), Some(_)) if *same => "the same",
                (Some(_), Some(_)) => "differs",
                (Some(_), None) => "only in A",
                _ => "only in B",
            };
            self.line(&format!("  output {name}: {word}"));
        }
        self.metrics(&stage.metrics);
    }

    fn metrics(&self, metrics: &[MetricPair]) {
        let words = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let signed = |value: f64| {
            if value > 0.0 { format!("+{}", number(value)) } else { number(value) }
        };
        let rows: Vec<_> = metrics
            .iter()
            .map(|it| {
                let difference = it.difference.map_or_else(String::new, signed);
                (it.name.as_str(), words(it.first), words(it.second), difference)
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        let names = rows.iter().map(|it| it.0.chars().count()).max().unwrap_or(0);
        let titles = format!("  {}  {:>10}  {:>10}  {:>10}", pad("", names), "A", "B", "B − A");
        self.line(&self.out.dim(&titles));
        for (name, first, second, difference) in rows {
            let line =
                format!("  {}  {first:>10}  {second:>10}  {difference:>10}", pad(name, names));
            self.line(line.trim_end());
        }
    }
}

fn outcome(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Done) => "done",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::Cancelled) => "stopped",
        Some(Outcome::Broken) => "broken",
        None => "unfinished",
    }
}

fn counts(run: &RunRecord) -> String {
    let mut words = vec![
        format!("{} ran", run.count(Status::Finished)),
        format!("{} cached", run.count(Status::Cached)),
    ];
    for (status, word) in [(Status::Failed, "failed"), (Status::Skipped, "skipped")] {
        let count = run.count(status);
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    words.join(", ")
}
