//! `gradus show`.

use std::{
    collections::HashSet,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gradus_cache::Cache;
use gradus_engine::{
    plan::{Plan, names},
    run::{
        History, RunError, RunRecord, Settings, StageRecord, Status, curves, final_outputs,
        table_of,
    },
};
use gradus_plot::PlotError;

use super::common::{self, PipelineArgs, PlaceArgs};
use crate::{
    failure::Failure,
    terminal::{Curve, Drawing, Terminal},
};

/// Show what a run of a pipeline put out, the last one unless another is named
///
/// With stages, the newest result of each, whichever run made it.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages, with their outputs and where they lie; all variants of a matrix by its name, as a table
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Draw the stages' curves of these metrics over their steps
    #[arg(long = "plot", value_name = "METRIC", requires = "stages", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Write the drawing to an SVG file
    #[arg(long, value_name = "FILE", requires = "metrics")]
    svg: Option<PathBuf>,
    /// Write the drawing to a PNG file
    #[arg(long, value_name = "FILE", requires = "metrics")]
    png: Option<PathBuf>,
    /// A run's id or the beginning of it (see `gradus runs`), or `last~1` and so on (of stages also several, with
    /// `--run` before each)
    #[arg(long = "run", value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Show {
    pub(crate) fn is_table(&self) -> bool {
        !self.stages.is_empty() && self.metrics.is_empty()
    }

    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let plan = self.pipeline.plan()?;
        let file = &self.pipeline.pipeline;
        let session = self.place.session(file, Settings::default())?;
        let runs = common::runs(&session.cache, Some(file))?;
        if runs.is_empty() {
            return Err(Failure::refused(
                format!("`{}` has not run yet", plan.name),
                format!("gradus run {}", file.display()),
            ));
        }
        let find = |wanted: &str| {
            History::find(&runs, wanted).map_err(|why| {
                let help = format!("`gradus runs {}` lists the runs", file.display());
                Failure::refused(why, help)
            })
        };
        if self.stages.is_empty() {
            let [.., several] = &self.runs[..] else {
                // Copies are of the last run: what an earlier one put out is only listed.
                let record = find("last")?;
                terminal.record(record);
                let outputs = final_outputs(&session.cache, &plan, record)?;
                terminal.results(&session.cache, record, &outputs, file);
                return Ok(ExitCode::SUCCESS);
            };
            if self.runs.len() > 1 {
                let words = "several runs are shown by their stages: name some";
                return Err(Failure::refused(words, "`gradus diff A B` compares two whole runs"));
            }
            terminal.record(find(several)?);
            return Ok(ExitCode::SUCCESS);
        }
        let named: Vec<&RunRecord> =
            self.runs.iter().map(|wanted| find(wanted)).collect::<Result<_, _>>()?;
        let found = if named.is_empty() {
            // The newest result of each stage counts, whichever run made it.
            stages(&runs.iter().collect::<Vec<_>>(), &self.stages)?
        } else {
            let mut found = Vec::new();
            for run in named {
                found.extend(stages(&[run], &self.stages)?);
            }
            found
        };
        let of_one = self.runs.len() < 2;
        let is_matrix =
            of_one && found.len() > 1 && found.iter().all(|it| it.1.kind == found[0].1.kind);
        if terminal.wants_tables() || (self.metrics.is_empty() && is_matrix && !terminal.is_json())
        {
            let stages: Vec<_> = found.iter().map(|(_, stage)| *stage).collect();
            terminal.table(&table_of(&stages));
        } else if self.metrics.is_empty() {
            terminal.stages_of_runs(&found, &session.cache);
        } else {
            self.draw(&session.cache, &plan, &found, terminal)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn draw(
        &self,
        cache: &Cache,
        plan: &Plan,
        found: &[Found<'_>],
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let mut curves = Vec::new();
        for metric in &self.metrics {
            curves.extend(drawn(cache, plan, found, metric)?);
        }
        let mut of: Vec<&str> = found.iter().map(|(run, _)| run.run.as_str()).collect();
        of.dedup();
        // What is the same of all stands in the title alone.
        for curve in &mut curves {
            if self.metrics.len() > 1 {
                curve.name = format!("{} {}", curve.name, curve.metric);
            }
            if self.runs.len() > 1 {
                curve.name = format!("{} {}", curve.name, curve.run);
            }
        }
        let metric = self.metrics.join(", ");
        let title = format!("{metric} of {}, run {}", self.stages.join(", "), of.join(", "));
        let drawing = Drawing { title, metric, curves };
        if let Some(path) = &self.svg {
            write(path, drawing.figure().svg().map(String::into_bytes))?;
        }
        if let Some(path) = &self.png {
            write(path, drawing.figure().png())?;
        }
        terminal.curves(&drawing, self.svg.as_deref(), self.png.as_deref());
        Ok(())
    }
}

fn write(path: &Path, picture: Result<Vec<u8>, PlotError>) -> Result<(), Failure> {
    let failed = |why: &dyn Display| {
        RunError::Setup(format!("`{}` cannot be written: {why}", path.display()))
    };
    let bytes = picture.map_err(|error| failed(&error))?;
    Ok(fs::write(path, bytes).map_err(|error| failed(&error))?)
}

/// A stage, in the run that knows of it.
type Found<'r> = (&'r RunRecord, &'r StageRecord);

/// What `wanted` names: in one run all of it; in several each stage in the newest that reached it.
fn stages<'r>(runs: &[&'r RunRecord], wanted: &[String]) -> Result<Vec<Found<'r>>, Failure> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for wanted in wanted {
        let before = found.len();
        for run in runs {
            for stage in run.stages.iter().filter(|it| names(wanted, &it.stage)) {
                let is_known = found[before..].iter().any(|(_, it)| it.stage == stage.stage);
                let reached = !matches!(stage.status, Status::Waiting | Status::Skipped);
                if !is_known && (reached || runs.len() == 1) {
                    found.push((run, stage));
                }
            }
        }
        if found.len() == before {
            let mut known: Vec<_> =
                runs.iter().flat_map(|run| &run.stages).map(|it| it.stage.as_str()).collect();
            let mut seen = HashSet::new();
            known.retain(|name| seen.insert(*name));
            let words = match runs {
                [run] => format!("run {} has no stage `{wanted}`", run.run),
                _ => format!("no run has a stage `{wanted}`"),
            };
            return Err(Failure::refused(words, format!("there are: {}", known.join(", "))));
        }
    }
    Ok(found)
}

/// The curve of `metric` of every stage that has it.
fn drawn(
    cache: &Cache,
    plan: &Plan,
    stages: &[Found<'_>],
    metric: &str,
) -> Result<Vec<Curve>, Failure> {
    let mut drawn = Vec::new();
    let mut known = Vec::new();
    for (record, stage) in stages {
        let planned = plan.stages.iter().find(|it| it.id == stage.stage);
        let ports = planned.into_iter().flat_map(|it| it.kind.outputs.iter().zip(&it.output_types));
        let metrics: Vec<_> =
            ports.filter(|(_, it)| *it == "metrics").map(|(port, _)| port.name.as_str()).collect();
        let mut curves = curves(cache, record, stage, &metrics)?;
        if let Some(points) = curves.remove(metric) {
            let (name, run) = (stage.stage.clone(), record.run.clone());
            drawn.push(Curve { name, run, metric: metric.to_owned(), points });
        }
        known.extend(curves.into_keys());
    }
    if !drawn.is_empty() {
        return Ok(drawn);
    }
    known.sort();
    known.dedup();
    let stages: Vec<_> = stages.iter().map(|(_, it)| format!("`{}`", it.stage)).collect();
    let help = if known.is_empty() {
        "only what a stage measures at its steps can be drawn".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    let words = format!("no metric `{metric}` over steps is known of {}", stages.join(", "));
    Err(Failure::refused(words, help))
}
