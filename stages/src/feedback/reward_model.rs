//! `feedback.reward_model`: a scalar head that scores the preferred reply higher (Bradley & Terry 1952;
//! Ouyang et al. 2022, eq. 1).
//!
//! A row's score stands at its last token, so rows should end in the end-of-text token.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use super::comparisons::{Terms, learn};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained, trainer::Training},
    port::{Out, ports},
    prepare::{
        examples::{Comparison, comparisons},
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
    /// Weight of imitation: what the preferred reply costs a language model on the same trunk, per token. It keeps the trunk
    /// knowing how such replies go on.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    imitation_weight: f64,
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

The Bradley-Terry loss on a scalar head over a language model, with `imitation_weight` beside the loss of \
imitating the preferred reply, as PPO-max has it (Zheng et al. 2023). With `test`, says how often the \
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
        let imitates = params.imitation_weight > 0.0;
        let base = base.with_score_head(context.stream("score head"), imitates).trainable();
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
        let terms = Terms {
            use_margin: params.use_margin,
            centring: params.centring,
            imitation_weight: params.imitation_weight,
        };
        let to = (&outputs.model, &outputs.curve);
        learn(base, rows, test, (terms, &params.training), to, context)
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
