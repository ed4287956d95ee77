//! `evaluate.over_optimisation`: the reward that is optimised and the true one against the root of the KL divergence (Gao, Schulman &
//! Hilton 2022, "Scaling Laws for Reward Model Overoptimization").
//!
//! The true reward rises with the proxy for a while and then falls while the proxy rises on. Where that happens is read off curves of
//! on-line training, and off the best of n samples of a policy that was not trained at all.

use std::{collections::BTreeMap, fs, path::Path};

use gradus_plot::PlotError;
use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    best_of_n::divergence_bound,
    evaluation::Evaluation,
    label::{Label, named, quoted},
    overshoot::{Line, Told, Unit, csv, figure, markdown},
    samples::{Reward, Sample, by_prompt},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::statistics::mean,
    port::{Many, Out, file_of, ports},
    rules::{param, rule},
    stage::Stage,
};

/// Plot proxy and true reward against divergence.
pub(crate) struct OverOptimisation;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The column of curves with the reward that was optimised.
    #[serde(default = "default_proxy")]
    proxy: String,
    /// The column of curves with the true reward.
    #[serde(default = "default_truth")]
    truth: String,
    /// The column of curves with the divergence from the reference, in nats per completion.
    #[serde(default = "default_kl")]
    kl: String,
    /// So many steps of a curve are averaged to one point. An iteration's rewards are of few samples: more make the peak less one of
    /// chance, and where it lies less exact.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    steps_per_point: usize,
    /// The axis of a matrix whose points repeat an experiment, such as `seed`: what differs in it alone becomes one line.
    #[serde(default)]
    replicates: Option<String>,
    /// What lines are called, by the stages that they come from. A stage's name stands for all its variants.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The heading of the plot and the report.
    #[serde(default = "default_title")]
    title: String,
}

fn default_proxy() -> String {
    "reward.score".to_owned()
}
fn default_truth() -> String {
    "reward.truth".to_owned()
}
fn default_kl() -> String {
    "kl_completion".to_owned()
}
fn one() -> usize {
    1
}
fn default_title() -> String {
    "Over-optimisation".to_owned()
}

ports!(Inputs {
    /// Curves of on-line training, with both rewards and the divergence.
    curves: Option<Many<artifact::Metrics>>,
    /// Evaluations with several samples of each prompt, a reward model's score (the proxy) and the true reward: the best of 1, 2, 4 …
    /// of them are points of a line.
    best_of_n: Option<Many<artifact::Evaluation>>,
});
ports!(Outputs {
    /// Where the true reward peaks, and what came after, a row per line, as Markdown.
    report: Out<artifact::Report>,
    /// Every point of every line as CSV.
    table: Out<artifact::Table>,
    /// The change of both rewards since the start against √KL, each as a share of its largest.
    plot: Out<artifact::Plot>,
    /// The same plot as PNG.
    picture: Out<artifact::Picture>,
});

impl Stage for OverOptimisation {
    const KIND: &'static str = "evaluate.over_optimisation";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Show where the true reward peaks while the optimised one rises on.

The horizontal axis is √KL, in √nats. Of the best of n samples rewards are those of the unbiased estimator (Nakano et al. 2021, appendix \
I), their KL divergence the upper bound ln n − (n − 1) / n. `NAME.lost` is the true reward at its peak less that at the end, with a 95 % \
interval over prompts or replicates; `NAME.proxy_after_peak` is what the proxy gained in the meantime.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    /// A training that is tried has two steps.
    fn rehearsal() -> Value {
        serde_json::json!({ "steps_per_point": 1 })
    }

    fn rules() -> Vec<Rule> {
        vec![rule(
            "there is nothing to plot: give `curves`, or `best_of_n`, or both",
            [param("inputs.curves").missing(), param("inputs.best_of_n").missing()],
        )]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let lines = params.lines(&inputs)?;
        for line in &lines {
            let name = &line.name;
            let peak = line.peak();
            context.summary(&format!("{name}.peak_root_kl"), line.root_kl(peak));
            context.estimate(&format!("{name}.lost"), &line.lost());
            context.summary(&format!("{name}.proxy_after_peak"), line.proxy_after_peak());
        }
        let told =
            Told { title: &params.title, lines: &lines, replicates: params.replicates.as_deref() };
        let write =
            |path: &Path, content: &[u8]| fs::write(path, content).map_err(StageError::file(path));
        let undrawn = |error: PlotError| StageError::refused(error.to_string());
        let figure = figure(&told);
        write(&outputs.report.path, markdown(&told).as_bytes())?;
        write(&outputs.table.path, csv(&told)?.as_bytes())?;
        write(&outputs.plot.path, figure.svg().map_err(undrawn)?.as_bytes())?;
        write(&outputs.picture.path, &figure.png().map_err(undrawn)?)
    }
}

impl Params {
    fn lines(&self, inputs: &Inputs) -> Result<Vec<Line>, StageError> {
        let mut names = Vec::new();
        let mut read: Vec<Line> = Vec::new();
        for (name, artifact) in inputs.curves.iter().flat_map(|it| &it.0) {
            let path = file_of(&artifact.source)?;
            let text = fs::read_to_string(path).map_err(StageError::file(path))?;
            let line = self.curve(&text);
            read.push(
                line.map_err(|why| StageError::refused(format!("`curves`, `{name}`: {why}")))?,
            );
            names.push(name.clone());
        }
        let mut measured: Vec<(String, Evaluation)> = Vec::new();
        for (name, artifact) in inputs.best_of_n.iter().flat_map(|it| &it.0) {
            let evaluation = Evaluation::read(file_of(&artifact.source)?, name)?;
            for (other, known) in &measured {
                evaluation.measured.comparable(&known.measured, [name, other])?;
            }
            let line = best_of(&evaluation.samples);
            read.push(
                line.map_err(|why| StageError::refused(format!("`best_of_n`, `{name}`: {why}")))?,
            );
            names.push(name.clone());
            measured.push((name.clone(), evaluation));
        }
        let labels = named(&names, &self.labels)?;
        self.merged(labels, read)
    }

    /// Lines by name; with `replicates` those that differ in it alone are units of one.
    fn merged(&self, labels: Vec<Label>, read: Vec<Line>) -> Result<Vec<Line>, StageError> {
        let mut lines: Vec<(Label, Line)> = Vec::new();
        for (label, line) in labels.into_iter().zip(read) {
            let axis = self.replicates.as_deref().filter(|axis| label.value(axis).is_some());
            let own = axis.map_or(label.clone(), |axis| label.without(axis));
            let known = lines.iter_mut().find(|(known, _)| *known == own);
            match known {
                Some((_, known)) if axis.is_some() && known.names == line.names => {
                    // A line of prompts becomes one of replicates by their means.
                    known.replicates.push(line.mean());
                }
                Some((_, known)) if axis.is_some() => {
                    return Err(StageError::refused(format!(
                        "replicates of `{own}` have {} and {} points: give all as many steps",
                        known.names.len(),
                        line.names.len()
                    )));
                }
                Some(_) => {
                    return Err(StageError::refused(format!(
                        "two lines would both be called `{own}`: name them apart in `labels`, or name what tells them apart in `replicates`"
                    )));
                }
                None => {
                    let replicates = axis.map(|_| line.mean()).into_iter().collect();
                    lines.push((own.clone(), Line { name: own.to_string(), replicates, ..line }));
                }
            }
        }
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    /// The points of a curve in JSON lines.
    fn curve(&self, text: &str) -> Result<Line, String> {
        let columns = [&self.proxy, &self.truth, &self.kl];
        let mut steps: Vec<(u64, [f64; 3])> = Vec::new();
        let mut known = Vec::new();
        for line in text.lines() {
            let step: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let values = columns.map(|column| step[column].as_f64());
            if let ([Some(proxy), Some(truth), Some(kl)], Some(number)) =
                (values, step["step"].as_u64())
            {
                steps.push((number, [proxy, truth, kl]));
            }
            known = step.as_object().map_or(known, |it| it.keys().cloned().collect());
        }
        if steps.len() < 2 * self.steps_per_point {
            let wanted = columns.map(ToString::to_string);
            return Err(format!(
                "there are {} steps with {}, and two points need {}: name its columns in `proxy`, `truth` and `kl`, or lower \
                 `steps_per_point`; there are {}",
                steps.len(),
                quoted(&wanted),
                2 * self.steps_per_point,
                quoted(&known)
            ));
        }
        let points = steps.chunks(self.steps_per_point);
        let points: Vec<_> = points.filter(|it| it.len() == self.steps_per_point).collect();
        let means = |at: usize| -> Vec<f64> {
            let of = |point: &&[(u64, [f64; 3])]| {
                mean(&point.iter().map(|it| it.1[at]).collect::<Vec<_>>())
            };
            points.iter().map(of).collect()
        };
        let last = |point: &&[(u64, [f64; 3])]| point.last().map_or(0, |it| it.0).to_string();
        Ok(Line {
            name: String::new(),
            names: points.iter().map(last).collect(),
            of_samples: false,
            units: vec![Unit { kl: means(2), proxy: means(0), truth: means(1) }],
            replicates: Vec::new(),
        })
    }
}

/// The best of 1, 2, 4 … samples by score, a unit for each prompt.
fn best_of(samples: &[Sample]) -> Result<Line, String> {
    let fewest = by_prompt(samples).map(<[Sample]>::len).min().unwrap_or(0);
    if fewest < 2 {
        return Err(
            "there is one sample of each prompt: raise `samples_per_prompt` of the evaluation"
                .to_owned(),
        );
    }
    if samples.iter().any(|it| it.kl.is_some_and(|kl| kl.abs() >= super::best_of_n::OWN)) {
        return Err("its policy is not its own reference, so the divergence of the best of n is not known: evaluate the reference".to_owned());
    }
    for reward in Reward::BOTH {
        if samples.iter().any(|it| reward.of(it).is_none()) {
            return Err(format!(
                "its samples have no {}: give the evaluation `{}`",
                reward.words(),
                reward.port()
            ));
        }
    }
    let counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n <= fewest).collect();
    let kl: Vec<f64> = counts.iter().map(|n| divergence_bound(*n)).collect();
    let unit = |samples: &[Sample]| {
        let pairs: Vec<(f64, f64)> =
            samples.iter().filter_map(|it| it.score.zip(it.true_reward)).collect();
        let of = |value: fn(&(f64, f64)) -> f64| {
            counts.iter().map(|n| expected_best(&pairs, *n, value)).collect()
        };
        Unit { kl: kl.clone(), proxy: of(|it| it.0), truth: of(|it| it.1) }
    };
    Ok(Line {
        name: String::new(),
        names: counts.iter().map(|n| format!("n={n}")).collect(),
        of_samples: true,
        units: by_prompt(samples).map(unit).collect(),
        replicates: Vec::new(),
    })
}

/// What the best by proxy of `n` of these is worth in expectation (Nakano et al. 2021, appendix I; Gao et al. 2022, appendix A): of N
/// in ascending order the i-th is the best of C(i − 1, n − 1) of C(N, n) choices. Of equal proxies each may be the best.
fn expected_best(pairs: &[(f64, f64)], n: usize, value: fn(&(f64, f64)) -> f64) -> f64 {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The chance that the best of n is among the first i: C(i, n) / C(N, n), factor by factor.
    let within = |i: usize| -> f64 {
        (0..n).map(|k| i.saturating_sub(k) as f64 / (sorted.len() - k) as f64).product()
    };
    let mut done = 0;
    let equal = sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    equal
        .map(|equal| {
            let before = within(done);
            done += equal.len();
            (within(done) - before) * mean(&equal.iter().map(value).collect::<Vec<_>>())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{evaluation::tests::evaluation, label::tests::labels},
        *,
    };

    fn params(more: &Value) -> Params {
        serde_json::from_value(more.clone()).unwrap()
    }

    #[test]
    fn the_best_of_n_is_expected_over_all_choices() {
        let pairs = [(2.0, 10.0), (1.0, 20.0), (3.0, 0.0)];
        let of = |n| expected_best(&pairs, n, |it| it.1);
        // One of three; of the pairs (1, 2), (1, 3), (2, 3) the better ones are 2, 3, 3.
        for (n, by_hand) in [(1, 10.0), (2, 10.0 / 3.0), (3, 0.0)] {
            assert!((of(n) - by_hand).abs() < 1e-12, "{n}: {}", of(n));
        }
        let tied = [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)];
        // Of two, the zero and either one, or both: a half each time.
        assert!((expected_best(&tied, 2, |it| it.1) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn steps_of_a_curve_become_points() {
        let step = |i: i32| serde_json::json!({ "step": i, "reward.score": i, "reward.truth": i * i, "kl_completion": 0.5 });
        let text = (1..=5).map(|i| step(i).to_string()).collect::<Vec<_>>().join("\n");
        let line = params(&serde_json::json!({ "steps_per_point": 2 })).curve(&text).unwrap();
        // The fifth fills no point.
        assert_eq!(line.names, ["2", "4"]);
        assert_eq!(line.units[0].truth, [2.5, 12.5]);
        let error =
            params(&serde_json::json!({ "truth": "reward.true" })).curve(&text).unwrap_err();
        insta::assert_snapshot!(error, @"there are 0 steps with `reward.score`, `reward.true`, `kl_completion`, and two points need 2: name its columns in `proxy`, `truth` and `kl`, or lower `steps_per_point`; there are `step`, `reward.score`, `reward.truth`, `kl_completion`");
    }

    #[test]
    fn samples_without_a_reward_or_of_a_trained_policy_are_refused() {
        let samples = evaluation(&["A lamp:"], 1.0, 0.0).samples;
        // Two samples of one prompt, half a nat from the reference.
        assert!(best_of(&samples).unwrap_err().contains("not its own reference"));
        let mut own: Vec<Sample> =
            samples.into_iter().map(|it| Sample { kl: None, ..it }).collect();
        assert_eq!(best_of(&own).unwrap().names, ["n=1", "n=2"]);
        own[1].score = None;
        assert!(best_of(&own).unwrap_err().contains("give the evaluation `reward_model`"));
    }

    #[test]
    fn replicates_become_one_line() {
        let line = |value: f64| Line {
            name: String::new(),
            names: vec!["1".to_owned(), "2".to_owned()],
            of_samples: false,
            units: vec![Unit {
                kl: vec![0.0, 1.0],
                proxy: vec![0.0, 1.0],
                truth: vec![value, 0.0],
            }],
            replicates: Vec::new(),
        };
        let of_seeds = params(&serde_json::json!({ "replicates": "seed" }));
        let names = labels(&["ppo[seed=0]", "ppo[seed=1]", "grpo[seed=0]"]);
        let lines = of_seeds.merged(names, vec![line(1.0), line(3.0), line(5.0)]).unwrap();
        let told: Vec<_> = lines.iter().map(|it| (it.name.as_str(), it.lost().value)).collect();
        assert_eq!(told, [("ppo", 2.0), ("grpo", 5.0)]);
        let twice = params(&serde_json::json!({}))
            .merged(labels(&["ppo", "ppo"]), vec![line(1.0), line(1.0)]);
        assert!(twice.unwrap_err().to_string().contains("both be called `ppo`"));
    }
}
