//! `evaluate.correlation`: whether one number of candidates goes with another: what a reward model expects of policies with what people
//! do, say (Han et al. 2025, "Reinforcement Learning from User Feedback").
//!
//! It is a licence to compare such policies by the first, and none to optimise it.

use std::fs;

use gradus_plot::{Figure, Look, PlotError, Point, Series};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    curve::Steps,
    numbers::{Number, Which, numbers},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        discrimination::{correlation, ranks},
        statistics::{Estimate, Interval},
    },
    port::{Many, Out, ports},
    stage::Stage,
};

/// Correlate two numbers of candidates.
pub(crate) struct Correlation;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct Params {
    /// The number along the horizontal axis, by a name that `evaluate.claim` knows; of rollouts the mean of a reward, or `reward`.
    x: String,
    /// The number along the vertical axis.
    y: String,
    #[serde(flatten)]
    steps: Steps,
    /// The heading of the plot.
    #[serde(default = "title")]
    title: String,
}

fn title() -> String {
    "One number with another".to_owned()
}

ports!(Inputs {
    /// What the numbers are of, three at least.
    candidates: Many<artifact::Numbers>,
});
ports!(Outputs {
    /// `pearson`, `spearman` and every candidate's numbers, as JSON.
    numbers: Out<artifact::File>,
    /// One number against the other.
    plot: Out<artifact::Plot>,
});

impl Stage for Correlation {
    const KIND: &'static str = "evaluate.correlation";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Say whether two numbers of candidates go together.

`pearson` has a 95 % interval (Fisher's z), which four candidates give at least; `spearman` is the same of ranks, ties sharing theirs.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let of = |metric: &str| {
            let which = Which { metric: metric.to_owned(), steps: params.steps.clone() };
            numbers("candidates", &inputs.candidates, &which)
        };
        let (x, y) = (of(&params.x)?, of(&params.y)?);
        let values = |all: &[Number]| -> Vec<f64> { all.iter().map(|it| it.value).collect() };
        let (one, other) = (values(&x), values(&y));
        if one.len() < 3 {
            return Err(StageError::refused(format!(
                "there are {} candidates, and of fewer than three any two numbers go together: give more",
                one.len()
            )));
        }
        let same = || {
            StageError::refused(format!(
                "`{}` or `{}` is the same of all candidates, so nothing goes with it",
                params.x, params.y
            ))
        };
        let pearson = estimate(correlation(&one, &other).ok_or_else(same)?, one.len());
        let spearman = correlation(&ranks(&one), &ranks(&other)).ok_or_else(same)?;
        context.estimate("pearson", &pearson);
        context.summary("spearman", spearman);
        context.summary("candidates", one.len() as f64);
        let each = x
            .iter()
            .zip(&other)
            .map(|(it, y)| json!({ "name": it.label.to_string(), "x": it.value, "y": y }));
        let told = json!({
            "pearson": pearson.value,
            "pearson_interval": pearson.interval,
            "spearman": spearman,
            "x": params.x,
            "y": params.y,
            "candidates": each.collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&told).expect("numbers are JSON") + "\n";
        fs::write(&outputs.numbers.path, text).map_err(StageError::file(&outputs.numbers.path))?;
        let point = |(it, y): (&Number, &f64)| Point {
            x: it.value,
            y: *y,
            interval: None,
            name: String::new(),
        };
        let figure = Figure {
            title: params.title.clone(),
            x: params.x.clone(),
            y: params.y.clone(),
            from_zero: false,
            series: vec![Series {
                name: format!("r = {:.2}", pearson.value),
                points: x.iter().zip(&other).map(point).collect(),
                look: Look::Marks,
            }],
            level: None,
        };
        let undrawn = |error: PlotError| StageError::refused(error.to_string());
        let svg = figure.svg().map_err(undrawn)?;
        fs::write(&outputs.plot.path, svg).map_err(StageError::file(&outputs.plot.path))
    }
}

/// With Fisher's (1921) interval: `tanh(artanh r ± 1.96 / √(n − 3))`; of three candidates there is none.
fn estimate(r: f64, count: usize) -> Estimate {
    let bounds = |half: f64| {
        let z = r.clamp(-1.0, 1.0).atanh();
        Interval { low: (z - half).tanh(), high: (z + half).tanh() }
    };
    let interval =
        (count > 3 && r.abs() < 1.0).then(|| bounds(1.959_964 / ((count - 3) as f64).sqrt()));
    Estimate { value: r, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_candidates_say_little() {
        let of = |count| estimate(0.5, count).interval;
        assert_eq!(of(3), None);
        // artanh ½ = 0.5493, and 1.96 / √4 = 0.98.
        let found = of(7).unwrap();
        assert!((found.low - (0.549_306 - 0.979_982_f64).tanh()).abs() < 1e-6);
        assert!((found.high - (0.549_306 + 0.979_982_f64).tanh()).abs() < 1e-6);
        assert_eq!(estimate(1.0, 9).interval, None);
    }
}
