//! What a run put out: reports in full, and where models and plots lie.

use std::{fs, path::Path};

use gradus_cache::{Cache, Form};
use gradus_engine::run::{FinalOutput, RunRecord, StageRecord};
use serde_json::json;

use super::{
    figures::{Figure, figures, in_one_line},
    paint::{duration, harmless, number, pad, size},
    report,
    screen::Terminal,
    width::of_stdout,
};

/// A report longer than this is named, not printed.
const LONGEST_REPORT: u64 = 64 << 10;

fn worth_saying(figure: &Figure) -> bool {
    let Figure { name, words } = figure;
    let none = words == "0" && (name.ends_with("_dropped") || name.ends_with("_cut"));
    name.starts_with("test_") && !none
}

impl Terminal {
    /// Prints a run's reports, what was measured on held-out rows, and where models and files lie.
    pub(crate) fn results(
        &self,
        cache: &Cache,
        record: &RunRecord,
        outputs: &[FinalOutput],
        file: &Path,
    ) {
        if self.json {
            return;
        }
        for copy in outputs.iter().filter(|it| it.put_back).filter_map(|it| it.copy.as_ref()) {
            self.warnings(&[format!("{} was not as it was made: put back", nearby(copy))]);
        }
        for report in outputs.iter().filter(|it| it.port_type == "report") {
            if report.artifact.bytes <= LONGEST_REPORT
                && let Ok(text) = fs::read_to_string(cache.file(&report.artifact.digest))
            {
                self.line("");
                self.text(&report::fitting(&harmless(&text), of_stdout()));
            }
        }
        self.held_out(record);
        self.places(outputs, file);
    }

    /// Numbers called `test_…`, of every stage that has some; that no row was dropped or cut need not be said.
    fn held_out(&self, record: &RunRecord) {
        let mut rows = Vec::new();
        for stage in &record.stages {
            let figures = figures(&stage.metrics).into_iter();
            rows.extend(figures.filter(worth_saying).map(|it| (stage, it)));
        }
        if rows.is_empty() {
            return;
        }
        self.line(&format!("\n{}", self.out.bold("On held-out rows")));
        let width = rows.iter().map(|(it, _)| it.stage.chars().count()).max().unwrap_or(0);
        for (stage, Figure { name, words }) in rows {
            self.line(&format!("  {}  {}  {words}", pad(&stage.stage, width), pad(&name, 24)));
        }
    }

    fn places(&self, outputs: &[FinalOutput], file: &Path) {
        let named = |it: &&FinalOutput| {
            matches!(
                it.port_type.as_str(),
                "model"
                    | "preference_model"
                    | "reward_model"
                    | "plot"
                    | "picture"
                    | "table"
                    | "report"
                    | "page"
            )
        };
        let rows: Vec<_> = outputs
            .iter()
            .filter(named)
            .map(|it| {
                let place = match &it.copy {
                    Some(path) => nearby(path),
                    None => {
                        format!("gradus export {} '{}.{}' DIR", file.display(), it.stage, it.output)
                    }
                };
                (format!("{}.{}", it.stage, it.output), place, it.artifact.bytes)
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        self.line(&format!("\n{}", self.out.bold("Where it lies")));
        let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        for (name, place, bytes) in rows {
            let bytes = self.out.dim(&format!("({})", size(bytes)));
            self.line(&format!("  {}  {place}  {bytes}", pad(&name, width)));
        }
    }

    /// A run, stage by stage.
    pub(crate) fn record(&self, record: &RunRecord) {
        if self.json {
            return self.value(record);
        }
        let width = record.stages.iter().map(|it| it.stage.chars().count()).max().unwrap_or(0);
        self.line(&format!("run {} of {}", self.out.bold(&record.run), record.pipeline));
        for stage in &record.stages {
            let status = json!(stage.status).as_str().unwrap_or_default().to_owned();
            let took = if stage.seconds > 0.0 { duration(stage.seconds) } else { String::new() };
            let line = format!(
                "{}  {}  {}  {}",
                pad(&stage.stage, width),
                pad(&status, 8),
                pad(&took, 10),
                in_one_line(&stage.metrics, usize::MAX),
            );
            self.line(line.trim_end());
        }
    }

    /// Stages, each of a run, with everything that is known about them.
    pub(crate) fn stages_of_runs(&self, stages: &[(&RunRecord, &StageRecord)], cache: &Cache) {
        if self.json {
            let row = |(run, stage): &(&RunRecord, &StageRecord)| {
                let mut row = json!(stage);
                row["run"] = json!(run.run);
                row
            };
            return self.value(&stages.iter().map(row).collect::<Vec<_>>());
        }
        for (run, stage) in stages {
            self.line(&format!("{}  {}", self.out.bold(&stage.stage), self.out.dim(&stage.kind)));
            self.line(&format!("  run          {}", run.run));
            if let Some(fingerprint) = &stage.fingerprint {
                self.line(&format!("  fingerprint  {fingerprint}"));
            }
            for (name, value) in &stage.metrics {
                let value = value.map_or_else(|| "not finite".to_owned(), number);
                self.line(&format!("  {}  {value}", pad(name, 28)));
            }
            for words in &stage.advice {
                self.line(&format!("  {} {}", self.out.yellow("!"), harmless(words)));
            }
            for (port, artifact) in &stage.outputs {
                let form = if artifact.form == Form::Tree { "folder" } else { "file" };
                self.line(&format!(
                    "  {port}: {form}, {}, {}",
                    size(artifact.bytes),
                    cache.file(&artifact.digest).display()
                ));
            }
            if let Some(message) = &stage.message {
                self.line(&format!("  {}", harmless(message)));
            }
        }
    }
}

/// A path as one would type it here: relative where it lies below the current folder.
fn nearby(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here.ok().and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}
