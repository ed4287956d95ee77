//! `train.sft`: supervised fine-tuning on completions (Ouyang et al. 2022, section 3.5).
//!
//! The loss is on the completion and the token that ends it; the prompt is only read.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        likelihood::{Likelihood, TokenLoss},
        pretrained::Pretrained,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{examples::completions, tally::Fit, truncation::TooLong},
    rules::{same_context, within_context},
    stage::Stage,
    train::held_out::report_held_out,
};

/// Supervised fine-tuning.
pub(crate) struct Sft;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// What a token costs.
    #[serde(default)]
    loss: TokenLoss,
    /// Share of the target spread evenly over the vocabulary; more keeps the model from growing sure.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    label_smoothing: f64,
    /// Leaves the prompt out of the loss.
    #[serde(default = "yes")]
    completion_only: bool,
    /// Tokens that prompt and completion may have together; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to rows with more. Cut ones teach what they have of the completion, but not to end it.
    #[serde(default = "TooLong::cut")]
    too_long: TooLong,
}

fn yes() -> bool {
    true
}

ports!(Inputs {
    /// The model to be trained.
    model: artifact::Model,
    /// Completions to imitate; of a preference the chosen one.
    completions: artifact::Completions,
    /// Completions to measure the loss on, after training, and on the way as `evaluate_every` says.
    test: Option<artifact::Completions>,
});
ports!(Outputs {
    /// The trained model.
    model: Out<artifact::Model>,
    /// Loss, accuracy and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for Sft {
    const KIND: &'static str = "train.sft";
    const REVISION: u32 = 3;
    const DOC: &'static str = "Teach a model to reply as the completions do.

Supervised fine-tuning: the loss is on the completion and the token that ends it. Rows longer than \
`max_length` are cut or dropped as `too_long` says, and counted; those that a cut leaves without a token of \
their completion are dropped.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

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
        let base = base.trainable();
        let fit = Fit::new(&base, params.max_length, params.too_long)?;
        let mut read = |port, source, completion_only| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            completions(port, source, &base.codec, fit, completion_only, report)
        };
        let rows = read("completions", &inputs.completions.source, params.completion_only)?;
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|test| read("test", &test.source, true)).transpose()?;
        context.tally("", &rows.tally);
        let objective = Likelihood {
            numbers: rows.numbers,
            token_loss: params.loss,
            smoothing: params.label_smoothing,
            ..Likelihood::plain(rows.rows)
        };
        let order = context.stream("order");
        if let Some(test) = &test {
            context.tally("test_", &test.tally);
        }
        let test = test.map(|test| Likelihood::plain(test.rows));
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&base.model, on, &params.training, order, context)?;
        if let Some(test) = &test {
            report_held_out(&base.model, &test.bins.concat(), context)?;
        }
        base.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}
