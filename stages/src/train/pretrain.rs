//! `train.pretrain`: next-token prediction on plain text (Radford et al. 2018, eq. 1), or by what its segments are worth (Korbak et al.
//! 2023, "Pretraining Language Models with Human Preferences").
//!
//! Texts are packed into rows of one length, so little is wasted on padding.

use std::ops::Range;

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;

use super::scored::{Conditioning, Goal, Scored};
use crate::{
    artifact::{self, tokenizer::Codec},
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        likelihood::{Likelihood, TokenLoss},
        pretrained::Pretrained,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        packing::{Strategy, pack},
        segments::{Segmented, segmented},
        token_rows::Purpose,
        tokenising::token_rows,
    },
    rules::{same_context, within_context},
    stage::Stage,
    train::held_out::report_held_out,
};

/// Learn a language from plain text.
pub(crate) struct Pretrain;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// Tokens in a packed row; the model's context by default. A longer text goes on in another row.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// How texts are put together into rows.
    #[serde(default)]
    #[schemars(extend("neutral" = "bfd_split"))]
    packing: Strategy,
    #[serde(flatten)]
    conditioning: Conditioning,
}

ports!(Inputs {
    /// The model to be trained.
    model: artifact::Model,
    /// Texts to learn from; but for `objective: mle` with the column `segments`, from `data.score`.
    text: artifact::Text,
    /// Texts to measure the loss on, after training, and on the way as `evaluate_every` says; packed alike.
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
    const REVISION: u32 = 3;
    const DOC: &'static str = "Teach a model a language from plain text, by next-token prediction.

A row of a batch is `max_length` tokens with as many texts as fit, as `packing` says; by default texts do not see \
each other, and none is cut off or dropped.

With another `objective` than `mle`, tokens count by the reward of the segment that they are of, as `data.score` has it; what is of no \
segment has 0. Segments are then tokenised one by one. The loss on `test` is of plain likelihood whatever the objective.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "model"));
        rules.extend(Conditioning::rules());
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
        let values = params.conditioning.has_values();
        let base = if values { base.with_values() } else { base }.trainable();
        let longest = base.longest(params.max_length)?;
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            let rows = token_rows(port, source, &base.codec, Purpose::Text, report)?;
            let example = |piece| Example::after_prompt(rows.ids().part(piece), 0);
            let bins = pack(rows.texts(), longest, params.packing).into_iter();
            let bins = bins.map(|bin| bin.into_iter().map(example).collect());
            Ok::<_, StageError>((rows.len(), bins.collect::<Vec<Vec<Example>>>()))
        };
        let scored = params.conditioning.objective != Goal::Mle;
        let (texts, bins) =
            if scored { (0, Vec::new()) } else { read("text", &inputs.text.source)? };
        let test = inputs.test.as_ref().map(|test| read("test", &test.source)).transpose()?;
        let (texts, bins, rewards) = if scored {
            let texts = segmented("text", &inputs.text.source, || context.heard())?;
            let (bins, rewards) = params.packed(&texts, &base.codec, longest)?;
            (texts.len(), bins, rewards)
        } else {
            (texts, bins, Vec::new())
        };
        let tokens = bins.iter().flatten().map(|example| example.ids.len()).sum::<usize>();
        context.summary("rows", texts as f64);
        context.summary("packed_rows", bins.len() as f64);
        context.summary("tokens", tokens as f64);
        let objective: Box<dyn Objective> = if scored {
            Box::new(Scored { bins, rewards, how: &params.conditioning })
        } else {
            Box::new(likelihood(bins))
        };
        let order = context.stream("order");
        if let Some((texts, _)) = &test {
            context.summary("test_rows", *texts as f64);
        }
        let test = test.map(|(_, bins)| likelihood(bins));
        let on = (objective.as_ref(), test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&base.model, on, &params.training, order, context)?;
        if let Some(test) = &test {
            report_held_out(&base.model, &test.bins.concat(), context)?;
        }
        let base = if values { base.without_values() } else { base };
        base.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

/// Packed rows, and what each predicted token of theirs is worth.
type Packed = (Vec<Vec<Example>>, Vec<Vec<f32>>);

impl Params {
    fn packed(
        &self,
        texts: &[Segmented],
        codec: &Codec,
        longest: usize,
    ) -> Result<Packed, StageError> {
        let (mut ids, mut rewards, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            let (own, worth) = text.tokens(codec)?;
            ranges.push(ids.len()..ids.len() + own.len());
            ids.extend(own);
            rewards.extend(worth);
        }
        let rows = pack(ranges.into_iter(), longest, self.packing);
        let example = |it: &Range<usize>| Example::after_prompt(ids[it.clone()].to_vec(), 0);
        let bins = rows.iter().map(|row| row.iter().map(example).collect()).collect();
        // Nothing predicts the first token of a piece.
        let worth =
            |it: &Range<usize>| rewards[it.clone()].iter().skip(1).copied().collect::<Vec<f32>>();
        let worth = rows.iter().map(|row| row.iter().flat_map(worth).collect()).collect();
        Ok((bins, worth))
    }
}

fn likelihood(bins: Vec<Vec<Example>>) -> Likelihood {
    let numbers = (0..bins.len()).collect();
    Likelihood { numbers, bins, token_loss: TokenLoss::Nll, smoothing: 0.0 }
}
