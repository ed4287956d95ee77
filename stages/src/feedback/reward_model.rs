//! `feedback.reward_model`: a scalar head that scores the preferred reply higher (Bradley & Terry 1952;
//! Ouyang et al. 2022, eq. 1).
//!
//! A row's score stands at its last token, so rows should end in the end-of-text token.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        decoder::Model,
        pretrained::Pretrained,
        ranking::Ranking,
        scores::scores,
        statistics::calibration_error,
        stepper::Loss,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::{Comparison, Prepared, comparisons},
        tally::Fit,
        truncation::TooLong,
    },
    rules::{param, rule, same_context, within_context},
    stage::Stage,
};

/// Train a reward model.
pub(crate) struct TrainRewardModel;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// Pull of the two scores of a pair towards opposite signs, against drift; more centres harder.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    centring: f64,
    /// Makes pairs differ by their `margin`, which rows must have.
    #[serde(default)]
    use_margin: bool,
    /// Tokens that a text may have, prompt included; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to pairs with a longer text. Of cut texts nobody said which is better.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

ports!(Inputs {
    /// The language model to start from; its output head gives way to a scalar one.
    model: artifact::Model,
    /// Pairs to learn from.
    preferences: artifact::Preferences,
    /// Pairs to measure accuracy and calibration on, after training, and loss and accuracy on the way as `evaluate_every` says.
    test: Option<artifact::Preferences>,
});
ports!(Outputs {
    /// The reward model.
    model: Out<artifact::RewardModel>,
    /// Loss, accuracy and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for TrainRewardModel {
    const KIND: &'static str = "feedback.reward_model";
    const REVISION: u32 = 3;
    const DOC: &'static str = "Train a model that scores the preferred reply higher.

The Bradley-Terry loss on a scalar head over a language model. With `test`, says how often the \
preferred reply wins on pairs it has not seen, with a 95 % interval, and how well its odds hold. \
Pairs with a text longer than `max_length` are dropped, or cut as `too_long` says, and counted; those whose \
texts a cut leaves the same are dropped.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![rule(
            "on held-out rows it may be no better than a coin (from {test_accuracy_low} on): a policy would learn noise from it",
            [param("test_accuracy_low").below(0.5)],
        )]
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "model"));
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
        let base = Pretrained::open("model", source, Head::LanguageModel, context.device)?;
        let base = base.with_score_head(context.stream("score head")).trainable();
        let fit = Fit::new(&base, params.max_length, params.too_long)?;
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            comparisons(port, source, &base.codec, fit, report)
        };
        let rows = read("preferences", &inputs.preferences.source)?;
        if params.use_margin {
            with_margins("preferences", &rows.rows)?;
        }
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|test| read("test", &test.source)).transpose()?;
        context.tally("", &rows.tally);
        if let Some(test) = &test {
            context.tally("test_", &test.tally);
        }
        let comparisons = |Prepared { rows, numbers, .. }, use_margin| Comparisons {
            rows,
            numbers,
            use_margin,
            centring: params.centring,
        };
        let objective = comparisons(rows, params.use_margin);
        // Rows to test on need no margins.
        let test = test.map(|test| comparisons(test, false));
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let order = context.stream("order");
        let learnt = train(&base.model, on, &params.training, order, context)?;
        if let Some(test) = &test {
            let report = |done, all| context.progress(done, all, "test texts", "");
            let found = quality(&base.model, &test.rows, report)?;
            context.estimate("test_accuracy", &found.ranking.accuracy);
            context.summary("test_margin", found.ranking.margin);
            context.summary("test_calibration_error", found.calibration_error);
        }
        base.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

/// Refuses rows without margins.
fn with_margins(port: &str, rows: &[Comparison]) -> Result<(), StageError> {
    if rows.iter().all(|row| row.margin.is_some()) {
        return Ok(());
    }
    Err(StageError::refused(format!(
        "`use_margin` is true, and the rows of `{port}` have no `margin`"
    )))
}

/// `−log σ(s_c − s_l − m)` (Bradley & Terry 1952; m as in Touvron et al. 2023, eq. 2), plus `c (s_c + s_l)²`
/// against drift (Eisenstein et al. 2023, eq. 7): `[pairs]`.
pub(crate) fn comparison_losses(
    chosen: &Tensor,
    rejected: &Tensor,
    margin: Option<&Tensor>,
    centring: f64,
) -> Tensor {
    let gap = chosen - rejected;
    let losses = match margin {
        Some(margin) => -(gap - margin).log_sigmoid(),
        None => -gap.log_sigmoid(),
    };
    if centring > 0.0 { losses + (chosen + rejected).square() * centring } else { losses }
}

/// Comparisons to be explained by scores.
pub(crate) struct Comparisons {
    pub(crate) rows: Vec<Comparison>,
    /// Which row of the data each is.
    pub(crate) numbers: Vec<usize>,
    /// Whether pairs are to differ by their margins.
    pub(crate) use_margin: bool,
    /// Weight of `(s_c + s_l)²`.
    pub(crate) centring: f64,
}

impl Objective for Comparisons {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, _: usize) -> f64 {
        1.0
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    /// A toss for every pair.
    fn loss_of_a_guess(&self, _: &Model) -> Option<f64> {
        Some(std::f64::consts::LN_2)
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].chosen.len() + self.rows[row].rejected.len()
    }

    fn loss(&self, model: &Model, rows: &[usize]) -> Result<Loss, StageError> {
        let ids: Vec<&[u32]> = (rows.iter().map(|row| &*self.rows[*row].chosen))
            .chain(rows.iter().map(|row| &*self.rows[*row].rejected))
            .collect();
        let scores = model.scores(&ids).chunk(2, 0);
        let (chosen, rejected) = (&scores[0], &scores[1]);
        #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
        let margin = |row: &usize| match self.rows[*row].margin {
            Some(margin) if self.use_margin => margin as f32,
            _ => 0.0,
        };
        let margins: Vec<f32> = rows.iter().map(margin).collect();
        let margins = Tensor::from_slice(&margins).to_device(model.device());
        let losses = comparison_losses(chosen, rejected, Some(&margins), self.centring);
        let sum = |x: Tensor| x.detach().sum(Kind::Float);
        Ok(Loss {
            sum: losses.sum(Kind::Float),
            metrics: vec![
                ("accuracy", sum(chosen.gt_tensor(rejected).to_kind(Kind::Float))),
                ("margin", sum(chosen - rejected)),
            ],
            tail: None,
        })
    }
}

/// How well a reward model does on comparisons it has not seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) ranking: Ranking,
    /// How far `σ(s_c − s_l)` lies from how often that reply is preferred; each pair is asked about from
    /// both sides.
    pub(crate) calibration_error: f64,
}

pub(crate) fn quality(
    model: &Model,
    rows: &[Comparison],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Quality, StageError> {
    let texts: Vec<&[u32]> = rows.iter().flat_map(|row| [&*row.chosen, &*row.rejected]).collect();
    let scores = scores(model, &texts, None, report)?;
    let margins: Vec<f64> = scores.chunks(2).map(|pair| pair[0] - pair[1]).collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let claims: Vec<(f64, bool)> =
        margins.iter().flat_map(|m| [(sigmoid(*m), true), (sigmoid(-*m), false)]).collect();
    let prompts: Vec<&[u8]> = rows.iter().map(|row| row.asked.bytes()).collect();
    let ranking = Ranking::of(&margins, &prompts);
    Ok(Quality { ranking, calibration_error: calibration_error(&claims) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, IndexOp};

    use super::*;
    use crate::{
        nn::{
            config::{Config, tests::tiny},
            stream::Stream,
        },
        prepare::token_rows::Asked,
    };

    #[test]
    fn equal_scores_cost_ln_2_and_centring_adds_the_square_of_their_sum() {
        let one = Tensor::from_slice(&[1_f32]);
        let plain = comparison_losses(&one, &one, None, 0.0).double_value(&[0]);
        assert!((plain - 2_f64.ln()).abs() < 1e-6);
        let centred = comparison_losses(&one, &one, None, 0.5).double_value(&[0]);
        assert!((centred - plain - 2.0).abs() < 1e-6);
        // 1 + ln 3 − 0 − 1 = ln 3, which wins in three of four.
        let (ahead, behind) = (Tensor::from_slice(&[1.0 + 3_f32.ln()]), one.zeros_like());
        let by_margin = comparison_losses(&ahead, &behind, Some(&one), 0.0).double_value(&[0]);
        assert!((by_margin + 0.75_f64.ln()).abs() < 1e-6);
    }

    /// No layers, so a text's score is that of its last token: ln 3 for token 2, else 0.
    fn fond_of_token_2() -> Model {
        let config = Config { layers: 0, head: Head::Score, pad: None, ..tiny() };
        let mut model = Model::fresh(config, Stream::of(1), Device::Cpu);
        for parameter in model.parameters.values_mut() {
            let _ = parameter.zero_();
        }
        let set = |name: &str, row: i64, value: f64| {
            let _ = model.parameters[name].i((row, 0)).fill_(value);
        };
        // The norm makes (1, 0, …) of eight numbers (√8, 0, …).
        set("model.embed_tokens.weight", 2, 1.0);
        set("score.weight", 0, 3_f64.ln() / 8_f64.sqrt());
        let _ = model.parameters.get_mut("model.norm.weight").unwrap().fill_(1.0);
        model
    }

    #[test]
    fn odds_of_three_to_one_that_hold_three_times_in_four_are_calibrated() {
        let row = |chosen: u32, rejected: u32| Comparison {
            chosen: vec![5, chosen].into(),
            rejected: vec![rejected].into(),
            margin: None,
            asked: Asked::of(""),
        };
        let (won, lost) = (row(2, 3), row(3, 2));
        let rows = [won.clone(), won.clone(), won.clone(), lost];
        let found = quality(&fond_of_token_2(), &rows, |_, _| Ok(())).unwrap();
        assert!((found.ranking.accuracy.value - 0.75).abs() < 1e-12);
        assert!((found.ranking.margin - 3_f64.ln() / 2.0).abs() < 1e-4);
        assert!(found.calibration_error < 1e-4);
        // Those that always hold were claimed a quarter too low, and their opposites too high.
        let found = quality(&fond_of_token_2(), &rows[..3], |_, _| Ok(())).unwrap();
        assert!((found.calibration_error - 0.25).abs() < 1e-4);
    }
}
