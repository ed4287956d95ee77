//! `data.annotate`: control tokens before segments, so that a model learns what is wanted and what is not apart, and can be asked for the
//! one (Korbak et al. 2023, "Pretraining Language Models with Human Preferences": conditional training).

use gradus_protocol::catalog::Rule;
use rand::Rng;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::{Fields, Format, Row, TextRow},
        dataset_folder::write_all,
    },
    context::Context,
    error::StageError,
    port::{Out, ports},
    prepare::segments::{COLUMN, Segment, Segmented, quantile, segmented},
    rules::{param, rule},
    stage::Stage,
};

/// Put control tokens before segments.
pub(crate) struct Annotate;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What stands before segments that are good enough: one of the `special_tokens` of `data.tokenizer`.
    #[serde(default = "good")]
    good: String,
    /// What stands before the others.
    #[serde(default = "bad")]
    bad: String,
    /// The least reward that is good enough.
    #[serde(default)]
    threshold: Option<f64>,
    /// In place of a threshold: the share of segments that is not good enough, as far as rewards differ.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    quantile: Option<f64>,
    /// How often a control token is left out, each by itself, so that the model also speaks without.
    #[serde(default = "hundredth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    drop: f64,
}

fn good() -> String {
    "<|aligned|>".to_owned()
}
fn bad() -> String {
    "<|misaligned|>".to_owned()
}
fn hundredth() -> f64 {
    0.01
}

ports!(Inputs {
    /// Texts with the column `segments`, from `data.score`.
    text: artifact::Text,
});
ports!(Outputs {
    /// The texts with control tokens in them, and without the column.
    text: Out<artifact::Text>,
});

impl Stage for Annotate {
    const KIND: &'static str = "data.annotate";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const DOC: &'static str = "Put control tokens before segments, by what they are worth.

Pretraining on these texts by plain likelihood is conditional training (Korbak et al. 2023): sampled behind the good token, the model \
writes as the good segments are. What a text begins with before its segments has no token before it.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![
            rule(
                "say from which reward on a segment is good enough: a `threshold`, or a `quantile`",
                [param("threshold").missing(), param("quantile").missing()],
            ),
            rule(
                "`threshold` and `quantile` both say what is good enough: leave one out",
                [param("threshold").given(), param("quantile").given()],
            ),
        ]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        if params.good == params.bad || params.good.is_empty() || params.bad.is_empty() {
            return Err(StageError::refused(
                "`good` and `bad` are two tokens, neither of them empty",
            ));
        }
        let texts = segmented("text", &inputs.text.source, || context.heard())?;
        let rewards: Vec<f64> = texts.iter().flat_map(Segmented::rewards).collect();
        let threshold = match (params.threshold, params.quantile) {
            (Some(threshold), _) => threshold,
            (None, share) => quantile(&rewards, share.unwrap_or(0.0)),
        };
        let mut rows = Vec::new();
        let (mut bad, mut dropped) = (0.0, 0.0);
        let streams = context.stream("dropped").rows(usize::MAX);
        for (number, (it, draws)) in texts.into_iter().zip(streams).enumerate() {
            let mut tokens = [&params.good, &params.bad].into_iter();
            if let Some(token) = tokens.find(|token| it.row.prompt().contains(*token)) {
                return Err(StageError::refused(format!(
                    "`text`, row {}: `{token}` stands in it already, and would say what nobody judged: take it out, or call the tokens \
                     something else",
                    number + 1
                )));
            }
            let mut draw = draws.generator();
            let mut text = String::new();
            for Segment { text: own, reward } in &it.segments {
                if let Some(reward) = reward {
                    let good_enough = *reward >= threshold;
                    bad += f64::from(!good_enough);
                    if draw.random_bool(params.drop.clamp(0.0, 1.0)) {
                        dropped += 1.0;
                    } else {
                        text += if good_enough { &params.good } else { &params.bad };
                    }
                }
                text += own;
            }
            let mut extra = it.row.extra;
            extra.remove(COLUMN);
            rows.push(Row { fields: Fields::Text(TextRow { text }), extra });
        }
        let all = rewards.len().max(1) as f64;
        if threshold.is_finite() {
            context.summary("threshold", threshold);
        }
        context.summary("rows", rows.len() as f64);
        context.summary("segments", rewards.len() as f64);
        context.summary("bad", bad / all);
        context.summary("dropped", dropped / all);
        write_all(&outputs.text.path, Format::Text, &rows)
    }
}
