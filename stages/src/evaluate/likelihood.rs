//! `evaluate.likelihood`: how likely a model finds texts: the loss that it was pretrained on, over those tokens that are asked about.

use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::numbers;
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{batch::Example, batches, config::Head, head, likelihood::learnt, pretrained::Pretrained},
    port::{Out, ports},
    prepare::{token_rows::Purpose, tokenising::token_rows},
    stage::Stage,
};

/// Measure the likelihood of texts.
pub(crate) struct Likelihood;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Tokens that stand in texts and do not count: control tokens, say.
    #[serde(default)]
    uncounted: Vec<String>,
    /// Tokens that the model is not allowed to expect, so that it is not counted against it how often it does; they do not count, either.
    #[serde(default)]
    masked: Vec<String>,
}

ports!(Inputs {
    /// The model.
    model: artifact::Model,
    /// The texts.
    text: artifact::Text,
});
ports!(Outputs {
    /// `nll` (nats per token), `perplexity` and `tokens`, as JSON.
    numbers: Out<artifact::File>,
});

impl Stage for Likelihood {
    const KIND: &'static str = "evaluate.likelihood";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Measure how likely a model finds texts, token by token.

Where the texts are from a source whose entropy is known, what `nll` is above it is the divergence of the model from the source, per token. \
Nothing predicts the first token of a text, which does not count.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let model =
            Pretrained::open("model", &inputs.model.source, Head::LanguageModel, context.device)?;
        let ids = |names: &[String]| -> Result<Vec<i64>, StageError> {
            let id = |token: &String| match model.codec.encode_bare(token)?.as_slice() {
                [id] => Ok(i64::from(*id)),
                _ => Err(StageError::refused(format!(
                    "`{token}` is no token of the model's tokenizer"
                ))),
            };
            names.iter().map(id).collect()
        };
        let (masked, mut uncounted) = (ids(&params.masked)?, ids(&params.uncounted)?);
        uncounted.extend(&masked);
        let report = &mut |done, all| context.progress(done, all, "rows read", "");
        let rows = token_rows("text", &inputs.text.source, &model.codec, Purpose::Text, report)?;
        let examples: Vec<Example> =
            rows.texts().map(|it| Example::after_prompt(rows.ids().part(it), 0)).collect();
        let longest = examples.iter().map(|it| it.ids.len()).max().unwrap_or(0);
        model.bears(longest, "the texts")?;
        let lengths: Vec<usize> = examples.iter().map(|it| it.ids.len()).collect();
        let _no_grad = tch::no_grad_guard();
        let found = batches::each(
            &lengths,
            |done, all| context.progress(done, all, "texts", ""),
            |part| {
                let bins: Vec<&[Example]> =
                    part.iter().map(|row| std::slice::from_ref(&examples[*row])).collect();
                let (hidden, ids) = learnt(&model.model, &bins);
                let log_probs = if masked.is_empty() {
                    head::log_probs(&model.model, &hidden, &ids).0
                } else {
                    without(&model.model.logits(&hidden), &masked, &ids)
                };
                let counts = counted(&ids, &uncounted);
                let list = |it: Tensor| {
                    Vec::<f64>::try_from(it.to_kind(Kind::Double).to_device(Device::Cpu))
                };
                // What is masked is infinitely unlikely, and is not counted.
                let losses = list((-log_probs).where_self(&counts, &Tensor::from(0.0)))?;
                let counts = list(counts)?;
                let labels = || part.iter().map(|row| examples[*row].labels());
                let (losses, counts) =
                    (batches::sums(&losses, labels()), batches::sums(&counts, labels()));
                Ok(losses.into_iter().zip(counts).collect())
            },
        )?;
        let loss: f64 = found.iter().map(|it: &(f64, f64)| it.0).sum();
        let tokens: f64 = found.iter().map(|it| it.1).sum();
        if tokens < 1.0 {
            return Err(StageError::refused(
                "no token of the texts counts: `uncounted` has them all",
            ));
        }
        let nll = loss / tokens;
        let numbers = [("nll", nll), ("perplexity", nll.exp()), ("tokens", tokens)];
        numbers::write(&numbers, &outputs.numbers.path, context)
    }
}

/// log p of `ids` among the tokens that are not masked.
fn without(logits: &Tensor, masked: &[i64], ids: &Tensor) -> Tensor {
    let masked = Tensor::from_slice(masked).to_device(logits.device());
    let logs = logits.index_fill(-1, &masked, f64::NEG_INFINITY).log_softmax(-1, Kind::Float);
    logs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1)
}

/// Whether each token counts.
fn counted(ids: &Tensor, uncounted: &[i64]) -> Tensor {
    let none = ids.eq_tensor(ids);
    uncounted.iter().fold(none, |counts, id| counts.logical_and(&ids.ne(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_is_not_expected_and_what_is_not_counted_does_not_count() {
        let logits = Tensor::from_slice(&[0_f32, 3_f32.ln(), 9.0, 0.0, 0.0, 9.0]).view([2, 3]);
        let ids = Tensor::from_slice(&[1_i64, 2]);
        let log_probs = without(&logits, &[2], &ids);
        assert!((log_probs.double_value(&[0]) - 0.75_f64.ln()).abs() < 1e-6);
        assert!(log_probs.double_value(&[1]).is_infinite());
        let counts = Vec::<bool>::try_from(counted(&ids, &[2])).unwrap();
        assert_eq!(counts, [true, false]);
        assert_eq!(Vec::<bool>::try_from(counted(&ids, &[])).unwrap(), [true, true]);
    }
}
