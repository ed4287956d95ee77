//! `train.pretrain`: next-token prediction on plain text (Radford et al. 2018, eq. 1).
//!
//! Texts are packed into rows of one length, so little is wasted on padding; they cannot see each other.

use gradus_protocol::catalog::{Length, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        curve::write_curve,
        likelihood::{Likelihood, TokenLoss},
        pretrained::Pretrained,
        trainer::{Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::texts,
        packing::{Packed, Strategy, pack},
    },
    stage::Stage,
    train::held_out::report_held_out,
};

/// Learn a language from plain text.
pub(crate) struct Pretrain;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// Tokens in a packed row; the model's context by default. A longer text goes on in another row.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
}

ports!(Inputs {
    /// The model to be trained.
    model: artifact::Model,
    /// Texts to learn from.
    text: artifact::Text,
    /// Texts to measure the loss on, after training; packed alike.
    test: Option<artifact::Text>,
});
ports!(Outputs {
    /// The trained model.
    model: Out<artifact::Model>,
    /// Loss, accuracy and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for Pretrain {
    const KIND: &'static str = "train.pretrain";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Teach a model a language from plain text, by next-token prediction.

A row of a batch is `max_length` tokens with as many texts as fit; no text is cut off or dropped.";
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
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            let texts = texts(port, source, &base.codec, report)?;
            let rows = pack(&texts, longest, Strategy::BfdSplit);
            Ok::<_, StageError>((texts.len(), rows.iter().map(bin).collect::<Vec<_>>()))
        };
        let (texts, bins) = read("text", &inputs.text.source)?;
        let test = inputs.test.as_ref().map(|test| read("test", &test.source)).transpose()?;
        let tokens = bins.iter().flatten().map(|example| example.ids.len()).sum::<usize>();
        context.summary("rows", texts as f64);
        context.summary("packed_rows", bins.len() as f64);
        context.summary("tokens", tokens as f64);
        let objective = Likelihood {
            numbers: (0..bins.len()).collect(),
            bins,
            token_loss: TokenLoss::Nll,
            smoothing: 0.0,
        };
        let order = context.stream("order");
        let curve = train(&base.model, &objective, &params.training, order, context)?;
        if let Some((texts, bins)) = test {
            context.summary("test_rows", texts as f64);
            let rows: Vec<Example> = bins.into_iter().flatten().collect();
            report_held_out(&base.model, &rows, context)?;
        }
        base.save(&outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}

/// A packed row as its examples.
fn bin(packed: &Packed) -> Vec<Example> {
    let mut start = 0;
    let cut = |length: &usize| {
        let ids = packed.row.ids[start..start + length].to_vec();
        start += length;
        Example::after_prompt(ids, 0)
    };
    packed.lengths.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::rows::Labelled;

    #[test]
    fn a_packed_row_comes_apart_where_its_texts_meet() {
        let row = Labelled { ids: vec![1, 2, 3, 4, 5], labels: vec![1, 2, 3, 4, 5] };
        let ids: Vec<_> = bin(&Packed { row, lengths: vec![2, 3] })
            .into_iter()
            .map(|example| example.ids)
            .collect();
        assert_eq!(ids, [vec![1, 2], vec![3, 4, 5]]);
    }
}
