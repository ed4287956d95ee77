//! `evaluate.compare`: evaluations side by side, as a table and as reward against KL.
//!
//! The plot is the one to look at: a policy is better when it has more reward at the same KL.

use std::{fmt::Write as _, fs, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    plot::{self, Point},
    samples::Sample,
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    port::{Many, Out, file_of, ports},
    stage::Stage,
};

/// Of a normal distribution, 95 % lie within this many deviations.
const Z95: f64 = 1.959_963_985;

/// Compare evaluations.
pub(crate) struct Compare;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The heading of the plot and the report.
    #[serde(default = "default_title")]
    title: String,
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
    /// What they all started from; it may be one of the candidates.
    baseline: Option<artifact::Evaluation>,
});
ports!(Outputs {
    /// One row per evaluation, best first, a plot and some completions, as Markdown.
    report: Out<artifact::Report>,
    /// The same as CSV.
    table: Out<artifact::Table>,
    /// The same as JSON.
    comparison: Out<artifact::Comparison>,
    /// Mean reward against KL, with 95 % intervals.
    plot: Out<artifact::Plot>,
});

impl Stage for Compare {
    const KIND: &'static str = "evaluate.compare";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Compare evaluations in a table and a plot of reward against KL.";
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
        let mut rows = Vec::new();
        let is_baseline = |evaluation: &artifact::Evaluation| {
            inputs.baseline.as_ref().is_some_and(|it| it.source == evaluation.source)
        };
        for (label, evaluation) in &inputs.candidates.0 {
            let baseline = is_baseline(evaluation);
            rows.push(Compared::load(file_of(&evaluation.source)?, label, baseline)?);
        }
        if let Some(baseline) = &inputs.baseline
            && !rows.iter().any(|row| row.baseline)
        {
            rows.push(Compared::load(file_of(&baseline.source)?, &baseline.label, true)?);
        }
        name_apart(&mut rows);
        rows.sort_by(|a, b| b.reward_mean.total_cmp(&a.reward_mean));
        let points: Vec<_> = rows.iter().filter_map(Compared::point).collect();
        write(&outputs.report.path, &markdown(&params, &rows, &points))?;
        write(&outputs.table.path, &csv(&rows)?)?;
        let json = serde_json::to_string_pretty(&rows);
        let json = json.map_err(|error| StageError::refused(error.to_string()))?;
        write(&outputs.comparison.path, &(json + "\n"))?;
        write(&outputs.plot.path, &plot::svg(&params.title, &points))?;
        if let Some(best) = rows.iter().find(|row| !row.baseline) {
            context.summary("best_reward", best.reward_mean);
        }
        Ok(())
    }
}

fn write(path: &Path, content: &str) -> Result<(), StageError> {
    fs::write(path, content).map_err(StageError::file(path))
}

/// What is read of an evaluation; it may hold more.
#[derive(Debug, Deserialize)]
struct Evaluation {
    #[serde(default)]
    name: Option<String>,
    reward_mean: f64,
    #[serde(default)]
    reward_sem: Option<f64>,
    /// Nats per completion, from the policy to its reference.
    #[serde(default)]
    kl: Option<f64>,
    #[serde(default)]
    win_rate: Option<f64>,
    /// Bounds of the win rate's 95 % interval.
    #[serde(default)]
    lo: Option<f64>,
    #[serde(default)]
    hi: Option<f64>,
    samples: Vec<Sample>,
}

/// A row of the table.
#[derive(Debug, Clone, Serialize)]
struct Compared {
    name: String,
    #[serde(skip)]
    label: String,
    baseline: bool,
    reward_mean: f64,
    reward_sem: Option<f64>,
    kl: Option<f64>,
    win_rate: Option<f64>,
    lo: Option<f64>,
    hi: Option<f64>,
    samples: usize,
    #[serde(skip)]
    texts: Vec<Sample>,
}

impl Compared {
    fn load(path: &Path, label: &str, baseline: bool) -> Result<Self, StageError> {
        let bytes = fs::read(path).map_err(StageError::file(path))?;
        let found: Evaluation = serde_json::from_slice(&bytes).map_err(|error| {
            StageError::refused(format!("the evaluation of `{label}` is not sound: {error}"))
        })?;
        Ok(Self {
            name: found.name.filter(|name| !name.is_empty()).unwrap_or_else(|| label.to_owned()),
            label: label.to_owned(),
            baseline,
            reward_mean: found.reward_mean,
            reward_sem: found.reward_sem,
            kl: found.kl,
            win_rate: found.win_rate,
            lo: found.lo,
            hi: found.hi,
            samples: found.samples.len(),
            texts: found.samples,
        })
    }

    fn point(&self) -> Option<Point> {
        let kl = self.kl.filter(|kl| kl.is_finite()).or(self.baseline.then_some(0.0))?;
        self.reward_mean.is_finite().then(|| Point {
            name: self.name.clone(),
            x: kl,
            y: self.reward_mean,
            half_interval: self.reward_sem.map_or(0.0, |sem| Z95 * sem),
            baseline: self.baseline,
        })
    }
}

/// Where two say the same name, the stages' own labels tell them apart.
fn name_apart(rows: &mut [Compared]) {
    let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
    for row in rows {
        if names.iter().filter(|name| **name == row.name).count() > 1 {
            row.name.clone_from(&row.label);
        }
    }
}

fn csv(rows: &[Compared]) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table
        .write_record([
            "name",
            "baseline",
            "reward_mean",
            "reward_sem",
            "kl",
            "win_rate",
            "lo",
            "hi",
            "samples",
        ])
        .map_err(|error| wrong(error.to_string()))?;
    let plain = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    for row in rows {
        table
            .write_record([
                row.name.clone(),
                row.baseline.to_string(),
                row.reward_mean.to_string(),
                plain(row.reward_sem),
                plain(row.kl),
                plain(row.win_rate),
                plain(row.lo),
                plain(row.hi),
                row.samples.to_string(),
            ])
            .map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

fn markdown(params: &Params, rows: &[Compared], points: &[Point]) -> String {
    let mut text = format!(
        "# {}\n\n\
         | policy | {} | KL | win rate | samples |\n| :-- | --: | --: | --: | --: |\n",
        params.title,
        which_reward(rows),
    );
    for row in rows {
        let name = row.name.replace('|', "\\|");
        let note = if row.baseline { " (baseline)" } else { "" };
        let reward = row.reward_sem.map_or(String::new(), |sem| format!(" ± {:.3}", Z95 * sem));
        let kl = row.kl.map_or("–".to_owned(), |kl| format!("{kl:.2}"));
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let win = match (row.win_rate, row.lo, row.hi) {
            (Some(rate), Some(lo), Some(hi)) => {
                format!("{} ({:.0}–{})", percent(rate), 100.0 * lo, percent(hi))
            }
            (Some(rate), ..) => percent(rate),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {name}{note} | {:.3}{reward} | {kl} | {win} | {} |",
            row.reward_mean, row.samples
        );
    }
    text += "\nIntervals hold 95 %, over prompts. KL is in nats per completion from the policy to its\n\
             reference: on the policy's own samples, the exact divergence at every token, summed. The\n\
             win rate is how often a completion has more reward than the baseline's of the same prompt.\n";
    if points.len() > 1 {
        let _ = write!(text, "\n## Reward against KL\n\n```text\n{}```\n", plot::text(points));
    }
    text + &examples(rows, params.examples)
}

/// The heading of the reward's column: which reward it is.
fn which_reward(rows: &[Compared]) -> &'static str {
    let mut samples = rows.iter().flat_map(|row| &row.texts);
    if samples.all(|sample| sample.true_reward.is_some()) {
        "true reward"
    } else {
        "reward-model score"
    }
}

/// The first completion of every policy for the first `most` prompts.
fn examples(rows: &[Compared], most: usize) -> String {
    let mut text = String::new();
    let mut prompts: Vec<&str> =
        rows.iter().flat_map(|row| &row.texts).map(|sample| sample.prompt.as_str()).collect();
    let mut seen = std::collections::HashSet::new();
    prompts.retain(|prompt| seen.insert(*prompt));
    for (index, prompt) in prompts.into_iter().take(most).enumerate() {
        if index == 0 {
            text += "\n## Samples\n";
        }
        let _ = writeln!(text, "\n> {}\n", prompt.trim().replace('\n', "\n> "));
        for row in rows {
            let Some(sample) = row.texts.iter().find(|sample| sample.prompt == prompt) else {
                continue;
            };
            let reward = sample.reward().map_or(String::new(), |it| format!(" ({it:.2})"));
            let words = sample.completion.trim().replace('\n', "\n  ");
            let end = if sample.ended { "" } else { " …" };
            let _ = writeln!(text, "- {}{reward}: {words}{end}", row.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(prompt: &str, completion: &str, reward: f64) -> Sample {
        Sample {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
            tokens: 3,
            ended: completion.ends_with('.'),
            log_prob: -1.0,
            true_reward: Some(reward),
            score: None,
            kl: None,
        }
    }

    fn load(label: &str, json: &serde_json::Value, baseline: bool) -> Result<Compared, StageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluation");
        fs::write(&path, json.to_string()).unwrap();
        Compared::load(&path, label, baseline)
    }

    fn rows() -> Vec<Compared> {
        let dpo = json!({
            "name": "dpo, |hot|", "reward_mean": 1.25, "reward_sem": 0.02, "kl": 4.5,
            "win_rate": 0.75, "lo": 0.7, "hi": 0.8, "more": 1,
            "samples": [sample("A lamp:", " It is\ngreat.", 1.5), sample("A desk:", " Fine.", 1.0)],
        });
        let sft = json!({ "reward_mean": 0.5, "samples": [sample("A lamp:", " The lamp", 0.5)] });
        vec![load("dpo[beta=0.1]", &dpo, false).unwrap(), load("sft", &sft, true).unwrap()]
    }

    fn params() -> Params {
        serde_json::from_value(json!({ "title": "Frontier" })).unwrap()
    }

    #[test]
    fn the_report_has_a_line_per_evaluation_a_plot_and_samples() {
        let rows = rows();
        let points: Vec<_> = rows.iter().filter_map(Compared::point).collect();
        insta::assert_snapshot!(markdown(&params(), &rows, &points));
    }

    #[test]
    fn the_table_quotes_what_csv_must() {
        insta::assert_snapshot!(csv(&rows()).unwrap(), @r#"
        name,baseline,reward_mean,reward_sem,kl,win_rate,lo,hi,samples
        "dpo, |hot|",false,1.25,0.02,4.5,0.75,0.7,0.8,2
        sft,true,0.5,,,,,,1
        "#);
    }

    #[test]
    fn equal_names_give_way_to_the_stages_labels() {
        let mut rows = rows();
        rows[0].name = "sft".to_owned();
        name_apart(&mut rows);
        assert_eq!((rows[0].name.as_str(), rows[1].name.as_str()), ("dpo[beta=0.1]", "sft"));
    }

    #[test]
    fn an_evaluation_without_a_reward_is_refused_by_its_label() {
        let error = load("dpo", &json!({}), false).unwrap_err().to_string();
        assert!(error.contains("`dpo`") && error.contains("reward_mean"), "{error}");
    }
}
