//! `evaluate.report`: what came of an experiment, as one page that can be sent to somebody.
//!
//! It shows what other kinds made and computes nothing that they did not: what cannot be compared is refused here as there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    candidate::{self, comparable, compete},
    compare::sorted,
    frontier::figure,
    label::quoted,
    page::{attached, claims, curves, document, policies, samples},
    samples::Reward,
    side_by_side::Told,
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    port::{Many, Out, ports},
    rules::{param, rule},
    stage::Stage,
};

/// Put results on a page.
pub(crate) struct Report;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The heading of the page.
    #[serde(default = "default_title")]
    title: String,
    /// What a reader should know first, as Markdown.
    #[serde(default)]
    about: String,
    /// What candidates and curves are called, by the stages that they come from: `dpo_evaluation: dpo`. A stage's name
    /// stands for all its variants.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The axis of a matrix whose points repeat an experiment, such as `seed`: candidates and curves that differ in it alone
    /// are shown as their mean.
    #[serde(default)]
    replicates: Option<String>,
    /// The reward to sort and to plot by, and that win rates are under; the true reward by default where all
    /// candidates have it, else the score.
    #[serde(default)]
    reward: Option<Reward>,
    /// The columns of curves to draw, a figure each. By default `loss`, `accuracy`, `reward`, `kl`, `kl_completion` and `entropy`, as far
    /// as a curve has them.
    #[serde(default)]
    metrics: Vec<String>,
    /// Prompts whose completions are shown side by side, from the first.
    #[serde(default = "default_examples")]
    examples: usize,
}

fn default_title() -> String {
    "Report".to_owned()
}

fn default_examples() -> usize {
    32
}

ports!(Inputs {
    /// Evaluations to compare in a table, a plot and by their samples.
    candidates: Option<Many<artifact::Evaluation>>,
    /// What win rates are against, and what all started from; it may be one of the candidates.
    baseline: Option<artifact::Evaluation>,
    /// Claims, with their verdicts.
    claims: Option<Many<artifact::Claimed>>,
    /// Curves of training.
    curves: Option<Many<artifact::Metrics>>,
    /// Plots of other stages.
    plots: Option<Many<artifact::Plot>>,
    /// Tables of other stages.
    tables: Option<Many<artifact::Table>>,
    /// Reports of other stages.
    reports: Option<Many<artifact::Report>>,
});
ports!(Outputs {
    /// The page: one HTML file that needs nothing beside it.
    page: Out<artifact::Page>,
});

impl Stage for Report {
    const KIND: &'static str = "evaluate.report";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Put tables, plots, curves, claims and samples side by side on one page.

The page is a single HTML file: it loads nothing, and opens wherever it is sent. Candidates that were not measured alike are refused, as \
by `evaluate.compare`. Tables are sorted by a click on their headings; samples can be searched and sorted by what a policy gained on the \
baseline.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let missing = [
            "inputs.candidates",
            "inputs.claims",
            "inputs.curves",
            "inputs.plots",
            "inputs.tables",
            "inputs.reports",
        ]
        .map(|port| param(port).missing());
        vec![
            rule(
                "there is nothing to show: give `candidates`, `claims`, `curves`, `plots`, `tables` or `reports`",
                missing,
            ),
            rule(
                "a `baseline` alone compares nothing: give `candidates`, too",
                [param("inputs.baseline").given(), param("inputs.candidates").missing()],
            ),
        ]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        params.known_labels(&inputs)?;
        let mut sections = Vec::new();
        let mut shown = None;
        if let Some(came) = &inputs.candidates {
            let names = params.labels_of(came.0.iter().map(|(name, _)| name));
            let mut candidates = candidate::read(&came.0, inputs.baseline.as_ref(), &names)?;
            comparable(&candidates)?;
            let reward = candidate::reward(params.reward, &candidates)?;
            compete(&mut candidates, reward);
            let rows = sorted(&candidates, params.replicates.as_deref(), reward)?;
            let over = params.replicates.as_deref().unwrap_or("prompts");
            let told = Told {
                title: &params.title,
                rows: &rows,
                candidates: &candidates,
                reward,
                replicates: params.replicates.as_deref(),
                examples: params.examples,
                drawing: None,
            };
            let frontier = figure("Reward against KL", &rows, reward, over);
            sections.push(policies::section(&told, &frontier)?);
            shown = samples::section(&told);
            context.summary("policies", rows.len() as f64);
        }
        if let Some(came) = &inputs.claims {
            let read = claims::read(came)?;
            context.summary("claims", read.len() as f64);
            context.summary("claims_holding", read.iter().filter(|it| it.holds()).count() as f64);
            sections.push(claims::section(&read));
        }
        if let Some(came) = &inputs.curves {
            let names = params.labels_of(came.0.iter().map(|(name, _)| name));
            let curves = curves::read(came, &names, params.replicates.as_deref())?;
            sections.push(curves::section(&curves, &params.metrics)?);
        }
        sections.extend(inputs.plots.as_ref().map(attached::plots).transpose()?);
        sections.extend(inputs.tables.as_ref().map(attached::tables).transpose()?);
        sections.extend(inputs.reports.as_ref().map(attached::reports).transpose()?);
        // What is long comes last.
        sections.extend(shown);
        let page = document::page(&params.title, &params.about, &sections);
        fs::write(&outputs.page.path, page).map_err(StageError::file(&outputs.page.path))
    }
}

impl Params {
    /// Refuses a label of what did not come in.
    fn known_labels(&self, inputs: &Inputs) -> Result<(), StageError> {
        let candidates = inputs.candidates.iter().flat_map(|it| &it.0).map(|(name, _)| name);
        let baseline = inputs.baseline.iter().map(|it| &it.label);
        let curves = inputs.curves.iter().flat_map(|it| &it.0).map(|(name, _)| name);
        let names: Vec<&String> = candidates.chain(baseline).chain(curves).collect();
        let known = |key: &String| names.iter().any(|name| meant(key, name));
        let Some(unknown) = self.labels.keys().find(|key| !known(key)) else { return Ok(()) };
        let names: BTreeSet<String> = names.into_iter().cloned().collect();
        let names: Vec<String> = names.into_iter().collect();
        Err(StageError::refused(format!(
            "`labels` names `{unknown}`, which is neither a candidate nor a curve: there are {}",
            quoted(&names)
        )))
    }

    /// Those labels that are of these.
    fn labels_of<'a>(&self, names: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
        let names: Vec<&String> = names.collect();
        let of_these = |key: &String| names.iter().any(|name| meant(key, name));
        self.labels
            .iter()
            .filter(|(key, _)| of_these(key))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect()
    }
}

/// Says whether a key of `labels` is about that stage.
fn meant(key: &str, name: &str) -> bool {
    key == name || name.strip_prefix(key).is_some_and(|rest| rest.starts_with('['))
}
