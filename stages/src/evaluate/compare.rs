//! `evaluate.compare`: evaluations side by side, as a table and as reward against KL.
//!
//! The plot is the one to look at: a policy is better when it has more reward at the same KL.

use std::{collections::BTreeMap, fs, path::Path};

use gradus_plot::{Figure, PlotError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    candidate::{self, Candidate, comparable, compete},
    frontier::figure,
    rows::{self, Row},
    samples::Reward,
    side_by_side::{self, Told},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    port::{Many, Out, ports},
    stage::Stage,
};

/// Compare evaluations.
pub(crate) struct Compare;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The heading of the plot and the report.
    #[serde(default = "default_title")]
    title: String,
    /// What candidates are called, by the stages that evaluated them: `dpo_evaluation: dpo`. A stage's name
    /// stands for all its variants, `baseline` for a baseline that is no candidate.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The axis of a matrix whose points repeat an experiment, such as `seed`. Candidates that differ in it
    /// alone become one row: their mean, with an interval over them instead of over prompts.
    #[serde(default)]
    replicates: Option<String>,
    /// The reward to sort and to plot by, and that win rates are under; the true reward by default where all
    /// candidates have it, else the score.
    #[serde(default)]
    reward: Option<Reward>,
    /// Prompts whose completions the report shows side by side, from the first.
    #[serde(default = "default_examples")]
    examples: usize,
}

fn default_title() -> String {
    "Reward against KL".to_owned()
}

fn default_examples() -> usize {
    2
}

ports!(Inputs {
    /// The evaluations to compare.
    candidates: Many<artifact::Evaluation>,
    /// What win rates are against, and what all started from; it may be one of the candidates.
    baseline: Option<artifact::Evaluation>,
});
ports!(Outputs {
    /// One row per candidate, best first, a plot and some completions, as Markdown.
    report: Out<artifact::Report>,
    /// The same as CSV.
    table: Out<artifact::Table>,
    /// The same as JSON.
    comparison: Out<artifact::Comparison>,
    /// Mean reward against KL, with 95 % intervals.
    plot: Out<artifact::Plot>,
    /// The same plot as PNG.
    picture: Out<artifact::Picture>,
});

impl Stage for Compare {
    const KIND: &'static str = "evaluate.compare";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Compare evaluations in a table and a plot of reward against KL.

Candidates that were not measured alike are refused: all need the same prompts, sampling settings, rewards and \
reference. True reward and reward-model score are columns of their own. Intervals hold 95 % and are over \
prompts, or over replicates where `replicates` is given.";
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let baseline = inputs.baseline.as_ref();
        let mut candidates = candidate::read(&inputs.candidates.0, baseline, &params.labels)?;
        comparable(&candidates)?;
        let reward = candidate::reward(params.reward, &candidates)?;
        compete(&mut candidates, reward);
        let rows = sorted(&candidates, params.replicates.as_deref(), reward)?;
        let over = params.replicates.as_deref().unwrap_or("prompts");
        let figure = figure(&params.title, &rows, reward, over);
        let untitled = Figure { title: String::new(), ..figure.clone() };
        let points: usize = figure.series.iter().map(|series| series.points.len()).sum();
        let told = Told {
            title: &params.title,
            rows: &rows,
            candidates: &candidates,
            reward,
            replicates: params.replicates.as_deref(),
            examples: params.examples,
            drawing: (points > 1).then(|| untitled.letters()),
        };
        write(&outputs.report.path, side_by_side::markdown(&told).as_bytes())?;
        write(&outputs.table.path, side_by_side::csv(&told)?.as_bytes())?;
        write(&outputs.comparison.path, side_by_side::json(&told)?.as_bytes())?;
        let undrawn = |error: PlotError| StageError::refused(error.to_string());
        write(&outputs.plot.path, figure.svg().map_err(undrawn)?.as_bytes())?;
        write(&outputs.picture.path, &figure.png().map_err(undrawn)?)?;
        let best = rows.iter().find(|row| !row.baseline).and_then(|row| row.reward(reward));
        if let Some(best) = best {
            context.estimate("best_reward", &best);
        }
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), StageError> {
    fs::write(path, content).map_err(StageError::file(path))
}

/// Rows, best first.
pub(super) fn sorted(
    candidates: &[Candidate],
    replicates: Option<&str>,
    reward: Reward,
) -> Result<Vec<Row>, StageError> {
    let mut rows = rows::rows(candidates, replicates)?;
    let value = |row: &Row| row.reward(reward).map_or(f64::NEG_INFINITY, |it| it.value);
    rows.sort_by(|a, b| value(b).total_cmp(&value(a)));
    Ok(rows)
}
