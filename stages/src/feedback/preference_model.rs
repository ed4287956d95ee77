//! `feedback.preference_model`: which of two replies is preferred, asked of both at once (Munos et al. 2023).
//!
//! A scalar head f reads the prompt, the one reply and the other, and `P(y ≻ y' | x) = σ(f(x, y, y') − f(x, y', y))`. So the odds of
//! two replies are opposite whichever comes first, and those of a reply against itself are even, whatever f is; and nothing makes
//! preferences an order, as scores would: y may be preferred to y', that to y'', and that to y.

use gradus_protocol::catalog::{Length, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use super::comparisons::{Terms, learn};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained, trainer::Training},
    port::{Out, ports},
    prepare::{examples::contests, tally::Fit, truncation::TooLong},
    rules::{param, rule, within_context},
    stage::Stage,
};

/// Train a preference model.
pub(crate) struct TrainPreferenceModel;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// Tokens that a prompt with both of its replies may have; the model's context by default. Longer pairs are dropped: of cut
    /// texts nobody said which is better.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
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
    /// The preference model.
    model: Out<artifact::PreferenceModel>,
    /// Loss, accuracy and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for TrainPreferenceModel {
    const KIND: &'static str = "feedback.preference_model";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a model that says which of two replies is preferred.

It reads a prompt with both replies, in either order, so unlike a reward model it can hold preferences that go in circles, and \
its odds are opposite whichever reply comes first (Munos et al. 2023). With `test`, says how often it prefers what was preferred \
on pairs it has not seen, with a 95 % interval, and how well its odds hold. `rewards: { win: { from: preference_model } }` takes it \
as a judge.";
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
        let base = base.with_score_head(context.stream("score head"), false).trainable();
        let fit = Fit::new(&base, params.max_length, TooLong::Drop)?;
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            contests(port, source, &base.codec, fit, report)
        };
        let rows = read("preferences", &inputs.preferences.source)?;
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|test| read("test", &test.source)).transpose()?;
        let to = (&outputs.model, &outputs.curve);
        learn(base, rows, test, (Terms::default(), &params.training), to, context)
    }
}
