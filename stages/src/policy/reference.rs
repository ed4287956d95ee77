//! `policy.reference`: what a reference thinks of all pairs, once for every training that is held to it.
//!
//! `log π_ref(y | x)` of Rafailov et al. 2023, eq. 7; it does not change while a policy learns, so a sweep over β
//! needs it once.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{self, digest::digest},
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    policy::log_probs::LogProbs,
    port::{Out, ports},
    prepare::{
        examples::{Pair, pairs},
        tally::Fit,
        truncation::TooLong,
    },
    rules::within_context,
    stage::Stage,
};

/// Log-probabilities of a reference.
pub(crate) struct Reference;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Tokens of prompt and completion that are kept, from the start; the model's context by default. As in the
    /// trainings that are to use it.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to pairs with a longer text. As in the trainings that are to use it.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

ports!(Inputs {
    /// The reference.
    model: artifact::Model,
    /// Pairs that policies will learn from.
    preferences: artifact::Preferences,
    /// Pairs that policies will be tested on.
    test: Option<artifact::Preferences>,
});
ports!(Outputs {
    /// The log-probability of every completion, for `log_probs` of `policy.dpo`.
    log_probs: Out<artifact::LogProbs>,
});

impl Stage for Reference {
    const KIND: &'static str = "policy.reference";
    const REVISION: u32 = 3;
    const USES_SEED: bool = false;
    const BY_ROW: &'static [&'static str] = &["preferences", "test"];
    const DOC: &'static str =
        "Compute what a reference thinks of all pairs, once for many trainings.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![within_context("max_length", "model")]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let source = &inputs.model.source;
        let reference = Pretrained::open("model", source, Head::LanguageModel, context.device)?;
        let fit = Fit::new(&reference, params.max_length, params.too_long)?;
        let page = context.page("log_prob", 2, &digest(source)?);
        let test = inputs.test.as_ref().map(|test| ("test_", "test", test));
        let mut found = LogProbs::default();
        for (prefix, port, rows) in
            [Some(("", "preferences", &inputs.preferences)), test].into_iter().flatten()
        {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            let read = pairs(port, &rows.source, &reference.codec, fit, report)?;
            context.tally(prefix, &read.tally);
            let report = |done, all| context.rows(done, all, "completions");
            found.add(&reference.model, read.rows.iter().flat_map(Pair::sides), &page, report)?;
        }
        context.summary("completions", found.len() as f64);
        context.summary("log_prob_mean", found.mean());
        found.save(&outputs.log_probs.path)
    }
}
