//! `model.init`: a decoder with random weights, to be pretrained.
//!
//! The weights of a tensor depend on the seed and on its name alone, so a model with one more layer
//! starts with the same first layers.

use gradus_protocol::catalog::{Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{self, tokenizer::Codec},
    context::Context,
    error::StageError,
    nn::{
        config::{Config, Family, Head},
        decoder::Model,
        model_folder::{Companions, save},
        rope::Rope,
    },
    port::{Out, files_of, ports},
    rules::{CONTEXT, hand_on, param, rule},
    stage::Stage,
};

/// Make a model with random weights.
pub(crate) struct Init;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Width of the hidden states. More learns more and costs its square.
    #[serde(default = "default_hidden")]
    #[schemars(range(min = 2, max = 65_536))]
    hidden_size: u32,
    /// Layers, one on top of the other. More learns more and costs in proportion.
    #[serde(default = "default_layers")]
    #[schemars(range(min = 1, max = 1024))]
    layers: u32,
    /// Attention heads in a layer; they share `hidden_size` evenly.
    #[serde(default = "default_heads")]
    #[schemars(range(min = 1, max = 1024))]
    heads: u32,
    /// Heads of keys and values, a divisor of `heads` and by default as many. Fewer make the cache of a
    /// long text smaller.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    kv_heads: Option<u32>,
    /// Width of the feed-forward layers; by default 8/3 of `hidden_size`, rounded up to a multiple of 8.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    intermediate_size: Option<u32>,
    /// The longest text, in tokens.
    #[serde(default = "default_context")]
    #[schemars(range(min = 2, max = 1_048_576))]
    context_length: u32,
    /// Base of the rotary positions. More tells far places apart better.
    #[serde(default = "default_theta")]
    #[schemars(range(min = 1.0))]
    rope_theta: f64,
    /// Uses the embedding as the output head too.
    #[serde(default = "yes")]
    tie_embeddings: bool,
    /// Standard deviation of the random weights.
    #[serde(default = "default_range")]
    #[schemars(range(min = 0.0, max = 1.0))]
    initializer_range: f64,
}

fn default_hidden() -> u32 {
    128
}
fn default_layers() -> u32 {
    4
}
fn default_heads() -> u32 {
    4
}
fn default_context() -> u32 {
    256
}
fn default_theta() -> f64 {
    10_000.0
}
fn yes() -> bool {
    true
}
fn default_range() -> f64 {
    0.02
}

ports!(Inputs {
    /// The tokenizer whose ids the model reads; it goes into the model's folder.
    tokenizer: artifact::Tokenizer,
});
ports!(Outputs {
    /// The untrained model.
    model: Out<artifact::Model>,
});

impl Stage for Init {
    const KIND: &'static str = "model.init";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Make a small decoder with random weights.

The architecture is Llama's, so other tools can load what comes of it.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn decided(outputs: &mut [Port]) {
        hand_on(outputs, "model", CONTEXT, "context_length");
    }

    fn rules() -> Vec<Rule> {
        vec![
            rule(
                "`hidden_size` cannot be shared evenly by so many `heads`",
                [param("hidden_size").no_multiple_of("heads")],
            ),
            rule(
                "`heads` cannot be shared evenly by so many `kv_heads`",
                [param("heads").no_multiple_of("kv_heads")],
            ),
        ]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let config = config(&params, &Codec::load(&inputs.tokenizer.source)?)?;
        let model = Model::fresh(config, context.stream("weights"), tch::Device::Cpu);
        let count: usize = model.parameters.values().map(tch::Tensor::numel).sum();
        context.summary("parameters", count as f64);
        save(&model, &outputs.model.path)?;
        let files = files_of(&inputs.tokenizer.source)?;
        Companions::of(files)?.save(&model, &outputs.model.path)
    }
}

fn config(params: &Params, codec: &Codec) -> Result<Config, StageError> {
    let (hidden, heads) = (params.hidden_size, params.heads);
    let vocab_size = i64::try_from(codec.vocabulary()).unwrap_or(i64::MAX);
    let inner = params.intermediate_size.unwrap_or((hidden * 8).div_ceil(24) * 8);
    let config = Config {
        family: Family::Llama,
        head: Head::LanguageModel,
        vocab_size,
        hidden_size: hidden.into(),
        intermediate_size: inner.into(),
        layers: params.layers.into(),
        heads: heads.into(),
        kv_heads: params.kv_heads.unwrap_or(heads).into(),
        head_dim: (hidden / heads).into(),
        context_length: params.context_length.into(),
        rms_norm_eps: 1e-5,
        rope: Rope::plain(params.rope_theta),
        tie_embeddings: params.tie_embeddings,
        attention_bias: false,
        mlp_bias: false,
        initializer_range: params.initializer_range,
        bos: codec.bos,
        eos: vec![codec.eos],
        pad: Some(codec.pad),
    };
    config.check().map_err(StageError::Refused)?;
    Ok(config)
}
