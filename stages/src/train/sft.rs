//! `train.sft`: supervised fine-tuning on completions (Ouyang et al. 2022, section 3.5).
//!
//! The loss is on the completion and the token that ends it; the prompt is only read.

use gradus_protocol::catalog::Length;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{self, tokenizer::Codec},
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        curve::write_curve,
        likelihood::{Likelihood, TokenLoss, perplexity},
        model_folder::{copy_tokenizer, load, save},
        trainer::{Training, train},
    },
    port::{Out, files_of, ports},
    prepare::{examples::completions, tally::Fit, truncation::TooLong},
    stage::Stage,
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
    /// Completions to measure perplexity on, after training.
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
    const REVISION: u32 = 2;
    const DOC: &'static str = "Teach a model to reply as the completions do.

Supervised fine-tuning: the loss is on the completion and the token that ends it. Rows longer than \
`max_length` are cut or dropped as `too_long` says, and counted; those that a cut leaves without a token of \
their completion are dropped.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn length() -> Option<Length> {
        Some(Training::length())
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let files = files_of(&inputs.model.source)?;
        let codec = Codec::load(&inputs.model.source)?;
        let model = load(files, context.device)?.expecting(Head::LanguageModel)?.trainable();
        let fit = Fit::new(&model, params.max_length, params.too_long)?;
        let source = &inputs.completions.source;
        let rows = completions("completions", source, &codec, fit, params.completion_only)?;
        context.tally("", &rows.tally);
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|it| completions("test", &it.source, &codec, fit, true)).transpose()?;
        let objective = Likelihood {
            token_loss: params.loss,
            smoothing: params.label_smoothing,
            ..Likelihood::plain(rows.rows)
        };
        let curve = train(&model, &objective, &params.training, context.seed, context)?;
        if let Some(test) = test {
            context.tally("test_", &test.tally);
            context.summary("test_perplexity", perplexity(&model, &test.rows)?);
        }
        save(&model, &outputs.model.path)?;
        copy_tokenizer(files, &outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}
