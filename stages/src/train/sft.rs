//! `train.sft`: supervised fine-tuning on completions (Ouyang et al. 2022, section 3.5).
//!
//! The loss is on the completion and the token that ends it; the prompt is only read.

use gradus_protocol::catalog::{Length, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        curve::write_curve,
        likelihood::{Likelihood, TokenLoss},
        pretrained::Pretrained,
        trainer::{Training, train},
    },
    port::{Out, ports},
    prepare::examples::{completions, dropped},
    stage::Stage,
    train::held_out::report_held_out,
};

/// Supervised fine-tuning.
pub(crate) struct Sft;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
    /// Tokens of prompt and completion that are kept, from the start; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
}

fn yes() -> bool {
    true
}

ports!(Inputs {
    /// The model to be trained.
    model: artifact::Model,
    /// Completions to imitate; of a preference the chosen one.
    completions: artifact::Completions,
    /// Completions to measure the loss on, after training.
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
    const REVISION: u32 = 1;
    const DOC: &'static str = "Teach a model to reply as the completions do.

Supervised fine-tuning: the loss is on the completion and the token that ends it. Rows without a token \
of their completion within `max_length` are dropped and counted.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        Training::rules()
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
        let longest = base.longest(params.max_length)?;
        let read =
            |source, completion_only| completions(source, &base.codec, longest, completion_only);
        let rows = read(&inputs.completions.source, params.completion_only)?;
        let test = inputs.test.as_ref().map(|test| read(&test.source, true)).transpose()?;
        context.summary("rows_dropped", dropped(&inputs.completions.source, &rows)?);
        let objective = Likelihood {
            token_loss: params.loss,
            smoothing: params.label_smoothing,
            ..Likelihood::plain(rows)
        };
        let order = context.stream("order");
        let curve = train(&base.model, &objective, &params.training, order, context)?;
        if let Some(rows) = test {
            report_held_out(&base.model, &rows, context)?;
        }
        base.save(&outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}
