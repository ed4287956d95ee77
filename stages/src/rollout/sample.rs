//! `rollout.sample`: completions of prompts by a policy, kept with their tokens and log-probabilities for whoever judges,
//! filters or learns from them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    decoding::{Decoding, Wanted},
    sampler::{Asked, Ready},
    trajectories::{Author, Span, Tokens, Trajectory, of_prompt, write},
};
use crate::{
    artifact::{self, digest::digest},
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    port::{Out, ports},
    prepare::examples::prompts,
    rules::{rule, within_context},
    stage::Stage,
};

/// Sample from a policy.
pub(crate) struct Sample;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    wanted: Wanted,
}

ports!(Inputs {
    /// Who completes.
    policy: artifact::Model,
    /// What to complete. Further columns, an answer say, stay with every completion.
    prompts: artifact::Prompts,
});
ports!(Outputs {
    /// The completions, those of a prompt one behind the other.
    rollouts: Out<artifact::Rollouts>,
});

impl Stage for Sample {
    const KIND: &'static str = "rollout.sample";
    const REVISION: u32 = 2;
    const BY_ROW: &'static [&'static str] = &["prompts"];
    const DOC: &'static str = "Sample completions of prompts, with their tokens and log-probabilities.

Rollouts are a data set of completions with more columns, so `train.sft` learns from them as they are, and a \
program can judge them. Prompts that leave no room for `max_new_tokens` in the policy's context are left out and \
counted; a prompt that stands in several rows is completed once.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "prompts": 16, "samples_per_prompt": 2, "max_new_tokens": 8 })
    }

    fn rules() -> Vec<gradus_protocol::catalog::Rule> {
        let mut rules = Decoding::rules();
        rules.push(within_context("max_new_tokens", "policy"));
        rules
    }

    fn advice() -> Vec<gradus_protocol::catalog::Rule> {
        vec![rule(
            "only {ended} of the completions end by themselves: whoever judges them judges texts that \
             `max_new_tokens` cut, so raise it",
            [crate::rules::param("ended").below(0.5)],
        )]
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let source = &inputs.policy.source;
        let policy = Pretrained::open("policy", source, Head::LanguageModel, context.device)?;
        let prompts = prompts("prompts", &inputs.prompts.source, params.wanted.prompts)?;
        context.summary("prompts_repeated", prompts.repeated as f64);
        let decoding = &params.wanted.decoding;
        let asked = Asked::each(prompts);
        let ready = Ready::new(&policy, asked, decoding.max_new_tokens, context)?;
        let policy_is = digest(source)?;
        let mut all: Vec<Trajectory> = Vec::new();
        for it in ready.sampled((&policy, &policy_is), decoding, params.wanted.batch, context)? {
            let asked = &ready.asked[it.asked];
            let before = all.last().filter(|last| last.tokens.prompt == asked.number);
            let sample = before.map_or(0, |last| last.tokens.sample + 1);
            let span = |author, tokens| Span { author, tokens, turn: 0 };
            let written = it.completion.ids.len();
            all.push(Trajectory {
                prompt: asked.prompt.clone(),
                completion: it.text,
                tokens: Tokens {
                    prompt: asked.number,
                    sample,
                    spans: vec![
                        span(Author::Prompt, it.prompt_ids.len()),
                        span(Author::Policy, written),
                    ],
                    ids: [it.prompt_ids.as_slice(), &it.completion.ids].concat(),
                    log_probs: it.completion.log_probs,
                    sampling_log_probs: it.completion.sampling_log_probs,
                    ended: it.ended,
                },
                rewards: [].into(),
                reward: None,
                extra: of_prompt(asked.extra.clone()),
            });
        }
        let count = all.len() as f64;
        let mean =
            |of: &dyn Fn(&Tokens) -> f64| all.iter().map(|it| of(&it.tokens)).sum::<f64>() / count;
        context.summary("samples", count);
        context.summary("ended", mean(&|it| f64::from(it.ended)));
        context.summary("tokens", mean(&|it| it.of_policy() as f64));
        let own = |it: &Tokens| it.log_probs.iter().map(|it| f64::from(*it)).sum();
        context.summary("log_prob", mean(&own));
        write(&outputs.rollouts.path, &all)
    }
}
