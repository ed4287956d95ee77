//! `feedback.pointwise`: a reward model from completions that were judged one by one: whether somebody liked them (Han et al. 2025,
//! "Reinforcement Learning from User Feedback", `P[Love]`), or how much.
//!
//! Nothing is compared, so it learns which prompts are liked as well as which replies are.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        decoder::Model,
        discrimination::{area, correlation},
        pretrained::Pretrained,
        scores::scores,
        statistics::{calibration_error, mean},
        stepper::Loss,
        stream::Stream,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::{Prepared, completions},
        labels::labels,
        tally::Fit,
        truncation::TooLong,
    },
    rules::{param, rule, same_context, within_context},
    stage::Stage,
};

/// Train a reward model on single completions.
pub(crate) struct Pointwise;

/// What a label is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Whether it was liked: the score z says so with probability σ(z).
    #[default]
    Liked,
    /// How good it is: a number that the score is to be.
    Value,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// What a label is.
    #[serde(default)]
    target: Target,
    /// The column of the label: true or false, or a number.
    #[serde(default = "label")]
    label: String,
    /// Of `target: liked`, where labels are numbers: above it a completion was liked.
    #[serde(default)]
    threshold: f64,
    /// Of `target: liked`: of the completions that were not liked, about so many for each that was are learnt from, and each of them
    /// counts for those that are left out, so that probabilities stay what they are. All by default.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    negatives_per_positive: Option<f64>,
    /// Tokens that a text may have, prompt included; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to rows with a longer text.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

fn label() -> String {
    "label".to_owned()
}

ports!(Inputs {
    /// What to start from: a language model, or a reward model that knows already what is good. Its head gives way to a fresh one.
    model: artifact::Trunk,
    /// Completions with a column that says whether they were liked, or how good they are.
    completions: artifact::Completions,
    /// The same to measure on, after training, and the loss on the way as `evaluate_every` says.
    test: Option<artifact::Completions>,
});
ports!(Outputs {
    /// The reward model.
    model: Out<artifact::RewardModel>,
    /// Loss and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for Pointwise {
    const KIND: &'static str = "feedback.pointwise";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a reward model on completions that were judged one by one.

With `target: liked` it is P[Love] (Han et al. 2025): the score z of a completion says that it is liked with probability σ(z). No \
reaction is no dislike: what can be read is the order, and ratios between policies. With `test`, says how well it tells what was \
liked from what was not (`test_auroc`, with a 95 % interval), how well its probabilities hold, and `test_rate_ratio`, what it expects \
over what was found. With `target: value` it is least squares, and says `test_r_squared`, `test_correlation` and \
`test_absolute_error`. `test_length_correlation` is how much scores go with length: more than a little and a policy will learn it.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![
            rule(
                "on held-out rows it may be no better than a coin (from {test_auroc_low} on): a policy would learn noise from it",
                [param("test_auroc_low").below(0.5)],
            ),
            rule(
                "it expects {test_rate_ratio} times as many likes as there are: what it says is an order and no rate",
                [param("test_rate_ratio").above(1.25)],
            ),
            rule(
                "scores go with length ({test_length_correlation}): a policy would learn to write more",
                [param("test_length_correlation").above(0.5)],
            ),
        ]
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "model"));
        rules.push(rule(
            "`negatives_per_positive` is about what was liked or not: take it out, or `target: value`",
            [param("negatives_per_positive").given(), param("target").is(["value"])],
        ));
        rules
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "model");
    }

    fn rehearsal() -> serde_json::Value {
        Training::rehearsal()
    }

    fn length() -> Option<Length> {
        Some(Training::length())
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let source = &inputs.model.source;
        let base = Pretrained::trunk("model", source, context.device)?;
        let base = base.with_score_head(context.stream("score head"), false).trainable();
        let fit = Fit::new(&base, params.max_length, params.too_long)?;
        let mut read = |prefix, port, came: &artifact::Completions| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            let Prepared { rows, numbers, tally } =
                completions(port, &came.source, &base.codec, fit, false, report)?;
            context.tally(prefix, &tally);
            let labels = labels(port, &came.source, &params.label)?;
            let row = |(row, number): (crate::nn::batch::Example, usize)| Judged {
                ids: row.ids.to_vec(),
                label: params.meant(labels[number]),
                weight: 1.0,
                number,
            };
            Ok::<_, StageError>(rows.into_iter().zip(numbers).map(row).collect::<Vec<_>>())
        };
        let rows = read("", "completions", &inputs.completions)?;
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|test| read("test_", "test", test)).transpose()?;
        let rows = match params.target {
            Target::Liked => liked(rows, params.negatives_per_positive, context)?,
            Target::Value => rows,
        };
        let of = |rows| Singles { target: params.target, rows };
        let (objective, test) = (of(rows), test.map(of));
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let order = context.stream("order");
        let learnt = train(&base.model, on, &params.training, order, context)?;
        if let Some(test) = &test {
            test.report(&base.model, context)?;
        }
        base.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

impl Params {
    fn meant(&self, label: f64) -> f64 {
        match self.target {
            Target::Liked => f64::from(label > self.threshold),
            Target::Value => label,
        }
    }
}

/// A completion with what somebody said of it.
struct Judged {
    ids: Vec<u32>,
    label: f64,
    weight: f64,
    number: usize,
}

/// All that were liked, and of the others so many; says how many there are. Which of them stay follows from their numbers, whatever
/// order they come in.
fn liked(
    rows: Vec<Judged>,
    negatives_per_positive: Option<f64>,
    context: &mut Context,
) -> Result<Vec<Judged>, StageError> {
    let positives = rows.iter().filter(|row| row.label > 0.5).count();
    let negatives = rows.len() - positives;
    context.summary("liked", positives as f64);
    if positives == 0 || negatives == 0 {
        return Err(StageError::refused(format!(
            "{positives} of {} completions were liked: there is nothing to tell apart; look at `label` and `threshold`",
            rows.len()
        )));
    }
    let draws = context.stream("negatives");
    let Some(wanted) = negatives_per_positive else { return Ok(rows) };
    let share = (wanted * positives as f64 / negatives as f64).min(1.0);
    let kept = thinned(rows, share, draws);
    context.summary("negatives_kept", (kept.len() - positives) as f64);
    Ok(kept)
}

/// About that share of the completions that were not liked, each with the weight of those that it stands for.
fn thinned(rows: Vec<Judged>, share: f64, draws: Stream) -> Vec<Judged> {
    let hasher = draws.hasher();
    let stays = |row: &Judged| {
        let mut hasher = hasher.clone();
        hasher.update(&(row.number as u64).to_le_bytes());
        let mut bytes = [0; 4];
        hasher.finalize_xof().fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) < share * (f64::from(u32::MAX) + 1.0)
    };
    let mut kept = Vec::new();
    for row in rows {
        if row.label > 0.5 {
            kept.push(row);
        } else if stays(&row) {
            kept.push(Judged { weight: 1.0 / share, ..row });
        }
    }
    kept
}

struct Singles {
    target: Target,
    rows: Vec<Judged>,
}

/// Of a score z and a label l: `−l log σ(z) − (1 − l) log σ(−z)`, or `(z − l)²`. Both `[rows]`.
fn losses(target: Target, scores: &Tensor, labels: &Tensor) -> Tensor {
    match target {
        Target::Liked => {
            let unliked = -(labels - 1.0) * (-scores).log_sigmoid();
            -(labels * scores.log_sigmoid()) - unliked
        }
        Target::Value => (scores - labels).square(),
    }
}

impl Objective for Singles {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, row: usize) -> f64 {
        self.rows[row].weight
    }

    fn number(&self, row: usize) -> usize {
        self.rows[row].number
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].ids.len()
    }

    #[expect(clippy::cast_possible_truncation, reason = "losses are float32")]
    fn loss(&self, model: &Model, part: &[usize], _: &[usize]) -> Result<Loss, StageError> {
        let rows: Vec<&Judged> = part.iter().map(|row| &self.rows[*row]).collect();
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let scores = model.scores(&ids);
        let column = |of: &dyn Fn(&Judged) -> f64| {
            let values: Vec<f32> = rows.iter().map(|row| of(row) as f32).collect();
            Tensor::from_slice(&values).to_device(model.device())
        };
        let losses = losses(self.target, &scores, &column(&|row| row.label));
        let sum = (losses * column(&|row| row.weight)).sum(Kind::Float);
        Ok(Loss { sum, metrics: Vec::new(), tail: None })
    }
}

impl Singles {
    /// What it says of completions that it has not seen.
    fn report(&self, model: &Model, context: &mut Context) -> Result<(), StageError> {
        let texts: Vec<&[u32]> = self.rows.iter().map(|row| row.ids.as_slice()).collect();
        let report = |done, all| context.progress(done, all, "test texts", "");
        let found = scores(model, &texts, None, report)?;
        let labels: Vec<f64> = self.rows.iter().map(|row| row.label).collect();
        let lengths: Vec<f64> = texts.iter().map(|text| text.len() as f64).collect();
        match self.target {
            Target::Liked => {
                let truths: Vec<bool> = labels.iter().map(|label| *label > 0.5).collect();
                if let Some(area) = area(&found, &truths) {
                    context.estimate("test_auroc", &area);
                }
                let odds: Vec<f64> = found.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
                let claims: Vec<(f64, bool)> = odds.iter().copied().zip(truths).collect();
                context.summary("test_calibration_error", calibration_error(&claims));
                context.summary("test_rate", mean(&labels));
                if mean(&labels) > 0.0 {
                    context.summary("test_rate_ratio", mean(&odds) / mean(&labels));
                }
            }
            Target::Value => {
                let pairs = || found.iter().zip(&labels);
                let errors: Vec<f64> = pairs().map(|(z, label)| (z - label).abs()).collect();
                let squares: f64 = errors.iter().map(|it| it * it).sum();
                let all: f64 = labels.iter().map(|label| (label - mean(&labels)).powi(2)).sum();
                if all > 0.0 {
                    context.summary("test_r_squared", 1.0 - squares / all);
                }
                context.summary("test_absolute_error", mean(&errors));
                if let Some(found) = correlation(&found, &labels) {
                    context.summary("test_correlation", found);
                }
            }
        }
        if let Some(found) = correlation(&found, &lengths) {
            context.summary("test_length_correlation", found);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(positives: usize, negatives: usize) -> Vec<Judged> {
        let row = |number| Judged {
            ids: vec![1],
            label: f64::from(u8::from(number < positives)),
            weight: 1.0,
            number,
        };
        (0..positives + negatives).map(row).collect()
    }

    #[test]
    fn who_stays_stands_for_those_who_do_not_and_order_does_not_matter() {
        let kept = thinned(rows(10, 4000), 0.1, Stream::of(1));
        let weight: f64 = kept.iter().map(|row| row.weight).sum();
        assert!((kept.len() as f64 - 410.0).abs() < 60.0 && (weight - 4010.0).abs() < 600.0);
        assert!(kept.iter().filter(|row| row.label > 0.5).all(|row| row.weight < 1.1));
        let mut turned = rows(10, 4000);
        turned.reverse();
        let numbers = |rows: Vec<Judged>| {
            let mut numbers: Vec<usize> = rows.into_iter().map(|row| row.number).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(numbers(thinned(turned, 0.1, Stream::of(1))), numbers(kept));
        assert_eq!(thinned(rows(1, 50), 1.0, Stream::of(1)).len(), 51);
    }

    #[test]
    fn odds_of_three_to_one_cost_what_the_label_says() {
        let scores = Tensor::from_slice(&[3_f64.ln(), 3_f64.ln()]);
        let labels = Tensor::from_slice(&[1.0, 0.0]);
        let of = |target| Vec::<f64>::try_from(losses(target, &scores, &labels)).unwrap();
        let close = |found: &[f64], by_hand: [f64; 2]| {
            assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        close(&of(Target::Liked), [-(0.75_f64.ln()), -(0.25_f64.ln())]);
        close(&of(Target::Value), [(3_f64.ln() - 1.0).powi(2), 3_f64.ln().powi(2)]);
    }
}
