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
    prepare::examples::{completions, dropped},
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
    const REVISION: u32 = 1;
    const DOC: &'static str = "Teach a model to reply as the completions do.

Supervised fine-tuning: the loss is on the completion and the token that ends it. Rows without a token \
of their completion within `max_length` are dropped and counted.";
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
        let longest = model.longest(params.max_length)?;
        let rows =
            completions(&inputs.completions.source, &codec, longest, params.completion_only)?;
        context.summary("rows_dropped", dropped(&inputs.completions.source, &rows)?);
        let objective = Likelihood {
            token_loss: params.loss,
            smoothing: params.label_smoothing,
            ..Likelihood::plain(rows)
        };
        let curve = train(&model, &objective, &params.training, context.seed, context)?;
        if let Some(test) = &inputs.test {
            let rows = completions(&test.source, &codec, longest, true)?;
            context.summary("test_perplexity", perplexity(&model, &rows)?);
            context.summary("test_rows", rows.len() as f64);
        }
        save(&model, &outputs.model.path)?;
        copy_tokenizer(files, &outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}
