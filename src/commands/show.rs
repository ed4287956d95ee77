//! `gradus show`.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gradus_cache::Cache;
use gradus_engine::{
    plan::{Plan, names},
    run::{History, RunError, RunRecord, Settings, StageRecord, curves, final_outputs},
};
use gradus_plot::PlotError;

use super::common::{self, PipelineArgs, PlaceArgs};
use crate::{
    failure::Failure,
    terminal::{Curve, Drawing, Terminal},
};

/// Show what a run of a pipeline put out, the last one unless another is named
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stages, with their outputs and where they lie; all variants of a matrix by its name
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Draw the stages' curve of this metric over their steps
    #[arg(long = "plot", value_name = "METRIC", requires = "stages")]
    metric: Option<String>,
    /// Write the drawing to an SVG file
    #[arg(long, value_name = "FILE", requires = "metric")]
    svg: Option<PathBuf>,
    /// Write the drawing to a PNG file
    #[arg(long, value_name = "FILE", requires = "metric")]
    png: Option<PathBuf>,
    /// A run's id or the beginning of it (see `gradus runs`), or `last~1` and so on
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Show {
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
        let wanted = self.run.as_deref().unwrap_or("last");
        let record = History::find(&runs, wanted).map_err(|why| {
            Failure::refused(why, format!("`gradus runs {}` lists the runs", file.display()))
        })?;
        if self.stages.is_empty() {
            terminal.record(record);
            // Copies are of the last run: what an earlier one put out is only listed.
            if self.run.is_none() {
                let outputs = final_outputs(&session.cache, &plan, record)?;
                terminal.results(&session.cache, record, &outputs, file);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let found = stages(record, &self.stages, self.run.is_some())?;
        match &self.metric {
            None => terminal.stages_of_record(&found, &session.cache),
            Some(metric) => {
                let curves = drawn(&session.cache, &plan, record, &found, metric)?;
                let title = format!("{metric} of {}, run {}", self.stages.join(", "), record.run);
                let drawing = Drawing { title, metric: metric.clone(), curves };
                if let Some(path) = &self.svg {
                    write(path, drawing.figure().svg().map(String::into_bytes))?;
                }
                if let Some(path) = &self.png {
                    write(path, drawing.figure().png())?;
                }
                terminal.curves(&drawing, self.svg.as_deref(), self.png.as_deref());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(path: &Path, picture: Result<Vec<u8>, PlotError>) -> Result<(), Failure> {
    let failed = |why: &dyn Display| {
        RunError::Setup(format!("`{}` cannot be written: {why}", path.display()))
    };
    let bytes = picture.map_err(|error| failed(&error))?;
    Ok(fs::write(path, bytes).map_err(|error| failed(&error))?)
}

fn stages<'r>(
    record: &'r RunRecord,
    wanted: &[String],
    named: bool,
) -> Result<Vec<&'r StageRecord>, Failure> {
    let mut found: Vec<&StageRecord> = Vec::new();
    for wanted in wanted {
        let is_meant = |it: &&StageRecord| names(wanted, &it.stage);
        let before = found.len();
        found.extend(record.stages.iter().filter(is_meant));
        if found.len() == before {
            let known: Vec<_> = record.stages.iter().map(|it| it.stage.as_str()).collect();
            let run = if named { format!("run {}", record.run) } else { "the last run".to_owned() };
            return Err(Failure::refused(
                format!("{run} has no stage `{wanted}`"),
                format!("its stages: {}", known.join(", ")),
            ));
        }
    }
    Ok(found)
}

/// The curve of `metric` of every stage that has it.
fn drawn(
    cache: &Cache,
    plan: &Plan,
    record: &RunRecord,
    stages: &[&StageRecord],
    metric: &str,
) -> Result<Vec<Curve>, Failure> {
    let mut drawn = Vec::new();
    let mut known = Vec::new();
    for stage in stages {
        let planned = plan.stages.iter().find(|it| it.id == stage.stage);
        let ports = planned.into_iter().flat_map(|it| it.kind.outputs.iter().zip(&it.output_types));
        let metrics: Vec<_> =
            ports.filter(|(_, it)| *it == "metrics").map(|(port, _)| port.name.as_str()).collect();
        let mut curves = curves(cache, record, stage, &metrics)?;
        if let Some(points) = curves.remove(metric) {
            drawn.push(Curve { name: stage.stage.clone(), points });
        }
        known.extend(curves.into_keys());
    }
    if !drawn.is_empty() {
        return Ok(drawn);
    }
    known.sort();
    known.dedup();
    let stages: Vec<_> = stages.iter().map(|it| format!("`{}`", it.stage)).collect();
    let help = if known.is_empty() {
        "only what a stage measures at its steps can be drawn".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    let words = format!("no metric `{metric}` over steps is known of {}", stages.join(", "));
    Err(Failure::refused(words, help))
}
