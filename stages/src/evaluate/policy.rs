//! `evaluate.policy`: samples of a policy, their reward, and how far it went from its reference.
//!
//! Reward alone misleads: a policy can gain it by leaving the reference far behind. So the KL divergence
//! is measured on the same samples, and `evaluate.compare` plots one against the other.

use std::{fs, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::samples::{Estimate, Sample, estimate, sequence_divergences, win_rate};
use crate::{
    artifact::{self, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        generate::{Limits, generate},
        likelihood::held_out,
        pretrained::Pretrained,
        sampling::Sampling,
        scores::scores,
    },
    port::{Out, file_of, ports},
    prepare::{
        examples::{completions, prompts},
        tally::Fit,
        truncation::TooLong,
    },
    stage::Stage,
};

/// Evaluate a policy.
pub(crate) struct EvaluatePolicy;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What the policy is called in tables; the stage's name by default.
    #[serde(default)]
    name: Option<String>,
    /// Prompts that are used, from the first; all by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    prompts: Option<usize>,
    /// Completions of each prompt. More make intervals narrower.
    #[serde(default = "default_samples")]
    #[schemars(range(min = 1, max = 10_000))]
    samples_per_prompt: usize,
    /// Tokens after which a completion is cut.
    #[serde(default = "default_new")]
    #[schemars(range(min = 1))]
    max_new_tokens: usize,
    /// How evenly tokens are drawn: 1 as the model says, less keeps to likely ones, 0 takes the most
    /// likely. Anything but 1 measures a policy other than the one that was trained.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    temperature: f64,
    /// Draws among so many of the most likely tokens; 0 among all.
    #[serde(default)]
    top_k: u32,
    /// Draws among the most likely tokens that have this mass together.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: f64,
    /// Draws among tokens at least this share as likely as the most likely.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: f64,
    /// Above 1, makes tokens that are there already less likely.
    #[serde(default = "one")]
    #[schemars(range(min = 0.01))]
    repetition_penalty: f64,
    /// Completions that are sampled side by side. More are faster and need more memory.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1))]
    batch: usize,
}

fn default_samples() -> usize {
    1
}
fn default_new() -> usize {
    64
}
fn one() -> f64 {
    1.0
}
fn default_rows() -> usize {
    128
}

ports!(Inputs {
    /// The policy to be judged.
    policy: artifact::Model,
    /// What to complete.
    prompts: artifact::Prompts,
    /// What the KL divergence is measured from: the policy before it learnt from feedback.
    reference: Option<artifact::Model>,
    /// Scores the samples.
    reward_model: Option<artifact::RewardModel>,
    /// Judges the samples by the reward that made the data.
    true_reward: Option<artifact::TrueReward>,
    /// Completions to measure perplexity on.
    completions: Option<artifact::Completions>,
    /// Another policy's evaluation on the same prompts, for a win rate.
    baseline: Option<artifact::Evaluation>,
});
ports!(Outputs {
    /// What was measured, and every sample.
    evaluation: Out<artifact::Evaluation>,
});

/// The file that `evaluate.compare` reads.
#[derive(Debug, Serialize, Deserialize)]
struct Evaluation {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The true reward where it is known, else the reward model's score.
    #[serde(skip_serializing_if = "Option::is_none")]
    reward_mean: Option<f64>,
    reward_sem: Option<f64>,
    /// Nats per completion, from the policy to its reference.
    kl: Option<f64>,
    kl_sem: Option<f64>,
    win_rate: Option<f64>,
    /// Bounds of the win rate's 95 % interval.
    lo: Option<f64>,
    hi: Option<f64>,
    score_mean: Option<f64>,
    score_sem: Option<f64>,
    perplexity: Option<f64>,
    tokens_mean: Option<f64>,
    /// Share of samples that came to an end by themselves.
    ended: Option<f64>,
    samples: Vec<Sample>,
}

impl Stage for EvaluatePolicy {
    const KIND: &'static str = "evaluate.policy";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Sample from a policy and measure reward, KL divergence and win rate.

The KL divergence is the mean over samples of the divergence between the two next-token \
distributions, summed over each completion. Errors and intervals are over prompts. Prompts that leave \
no room for `max_new_tokens` in the policy's context are left out and counted.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let head = Head::LanguageModel;
        let policy = Pretrained::open("policy", &inputs.policy.source, head, context.device)?;
        let prompts = prompts("prompts", &inputs.prompts.source, params.prompts)?;
        context.summary("prompts_repeated", prompts.repeated as f64);
        let fit = Fit::new(&policy, None, TooLong::Cut)?;
        let others = inputs.completions.as_ref();
        let others = others
            .map(|it| completions("completions", &it.source, &policy.codec, fit, true))
            .transpose()?;
        let (mut samples, rows) = sampled(&params, &policy, prompts.texts, context)?;
        if let Some(reward) = &inputs.true_reward {
            let reward = TrueReward::load(file_of(&reward.source)?)?;
            for sample in &mut samples {
                sample.true_reward = Some(reward.score(&sample.prompt, &sample.completion));
            }
        }
        if let Some(reward_model) = &inputs.reward_model {
            score(&mut samples, reward_model, context)?;
        }
        if let Some(reference) = &inputs.reference {
            let source = &reference.source;
            let reference = Pretrained::open("reference", source, head, context.device)?;
            reference.same_tokens(&policy)?;
            let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
            reference.bears(longest, "the prompts with their completions")?;
            let report = |done, all| context.progress(done, all, "samples compared", "");
            let divergences = sequence_divergences(&policy.model, &reference.model, &rows, report)?;
            samples.iter_mut().zip(divergences).for_each(|(sample, kl)| sample.kl = Some(kl));
        }
        let mut evaluation = Evaluation::of(params.name, samples);
        if let Some(others) = others {
            context.tally("completions_", &others.tally);
            let report = |done, all| context.progress(done, all, "held-out rows", "");
            let found = held_out(&policy.model, &others.rows, report)?;
            evaluation.perplexity = Some(found.loss.exp());
        }
        if let Some(baseline) = &inputs.baseline {
            evaluation.compare(&read(file_of(&baseline.source)?)?, 0)?;
        }
        evaluation.report(context);
        write(&evaluation, &outputs.evaluation.path)
    }
}

/// Completions of every prompt that leaves room for one, as text and as tokens.
fn sampled(
    params: &Params,
    policy: &Pretrained,
    texts: Vec<String>,
    context: &mut Context,
) -> Result<(Vec<Sample>, Vec<Example>), StageError> {
    let room = policy.longest(None)?.saturating_sub(params.max_new_tokens);
    let all = texts.len();
    let (mut fitting, mut encoded, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for (number, text) in texts.into_iter().enumerate() {
        let ids = policy.codec.encode_open(&text)?;
        if ids.len() <= room {
            fitting.push(text);
            encoded.push(ids);
            numbers.push(number);
        }
    }
    let texts = fitting;
    if texts.is_empty() {
        return Err(StageError::refused(format!(
            "none of the {all} prompts leaves room for {} tokens in the policy's context: lower \
             `max_new_tokens`",
            params.max_new_tokens
        )));
    }
    context.summary("prompts", texts.len() as f64);
    let left_out = all - texts.len();
    context.summary("prompts_left_out", left_out as f64);
    if left_out * 20 > all {
        context.note(format!(
            "{left_out} of {all} prompts were left out: they leave no room for {} tokens in the policy's \
             context; lower `max_new_tokens`",
            params.max_new_tokens
        ));
    }
    let copies = params.samples_per_prompt;
    let prompts: Vec<&[u32]> =
        encoded.iter().flat_map(|ids| std::iter::repeat_n(ids.as_slice(), copies)).collect();
    let sampling = Sampling {
        temperature: params.temperature,
        top_k: params.top_k.into(),
        top_p: params.top_p,
        min_p: params.min_p,
        repetition_penalty: params.repetition_penalty,
    };
    let limits = Limits {
        max_new_tokens: params.max_new_tokens,
        eos: &policy.model.config.eos,
        rows: params.batch,
    };
    let mut streams = context.stream("samples");
    let draws = numbers.into_iter().flat_map(|prompt| streams.at(prompt).rows(copies)).collect();
    let report = |done| context.progress(done, prompts.len(), "samples", "");
    let generated = generate(&policy.model, &prompts, draws, &sampling, &limits, report)?;
    let (mut samples, mut rows) = (Vec::new(), Vec::new());
    for (i, completion) in generated.into_iter().enumerate() {
        samples.push(Sample {
            prompt: texts[i / copies].clone(),
            completion: policy.codec.continued(prompts[i], &completion.ids)?,
            tokens: completion.ids.len(),
            ended: completion.ids.last().is_some_and(|last| limits.eos.contains(last)),
            log_prob: completion.log_probs.iter().copied().map(f64::from).sum(),
            true_reward: None,
            score: None,
            kl: None,
        });
        let ids = [prompts[i], &completion.ids].concat();
        rows.push(Example::after_prompt(ids, prompts[i].len()));
    }
    Ok((samples, rows))
}

/// Scores the samples as texts, so the reward model may have a tokenizer of its own.
fn score(
    samples: &mut [Sample],
    reward_model: &artifact::RewardModel,
    context: &mut Context,
) -> Result<(), StageError> {
    let source = &reward_model.source;
    let judge = Pretrained::open("reward_model", source, Head::Score, context.device)?;
    let mut texts = Vec::with_capacity(samples.len());
    for sample in &*samples {
        let end = if sample.ended { judge.codec.eos_text.as_str() } else { "" };
        texts.push(judge.codec.encode(&format!("{}{}{end}", sample.prompt, sample.completion))?);
    }
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    judge.bears(longest, "the prompts with their completions")?;
    let report = |done, all| context.progress(done, all, "samples scored", "");
    let scores = scores(&judge.model, &texts, report)?;
    samples.iter_mut().zip(scores).for_each(|(sample, score)| sample.score = Some(score));
    Ok(())
}

impl Evaluation {
    fn of(name: Option<String>, samples: Vec<Sample>) -> Self {
        let mean = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.mean);
        let sem = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.sem);
        let reward = estimate(&samples, Sample::reward);
        let kl = estimate(&samples, |sample| sample.kl);
        let score = estimate(&samples, |sample| sample.score);
        let tokens = estimate(&samples, |sample| Some(sample.tokens as f64));
        let ended = estimate(&samples, |sample| Some(f64::from(sample.ended)));
        Self {
            name,
            reward_mean: mean(reward),
            reward_sem: sem(reward),
            kl: mean(kl),
            kl_sem: sem(kl),
            win_rate: None,
            lo: None,
            hi: None,
            score_mean: mean(score),
            score_sem: sem(score),
            perplexity: None,
            tokens_mean: mean(tokens),
            ended: mean(ended),
            samples,
        }
    }

    fn compare(&mut self, baseline: &Self, seed: u64) -> Result<(), StageError> {
        let found = win_rate(&self.samples, &baseline.samples, seed).ok_or_else(|| {
            StageError::refused(
                "the baseline was sampled on other prompts, or judged by another reward",
            )
        })?;
        self.win_rate = Some(found.rate);
        (self.lo, self.hi) = (Some(found.interval.low), Some(found.interval.high));
        Ok(())
    }

    fn report(&self, context: &mut Context) {
        for (name, value) in [
            ("reward_mean", self.reward_mean),
            ("reward_sem", self.reward_sem),
            ("score_mean", self.score_mean),
            ("kl", self.kl),
            ("win_rate", self.win_rate),
            ("win_rate_low", self.lo),
            ("win_rate_high", self.hi),
            ("perplexity", self.perplexity),
            ("tokens_mean", self.tokens_mean),
            ("ended", self.ended),
        ] {
            if let Some(value) = value {
                context.summary(name, value);
            }
        }
    }
}

fn read(path: &Path) -> Result<Evaluation, StageError> {
    let bytes = fs::read(path).map_err(StageError::file(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| StageError::refused(format!("the baseline is not sound: {error}")))
}

fn write(evaluation: &Evaluation, path: &Path) -> Result<(), StageError> {
    let json = serde_json::to_string_pretty(evaluation)
        .map_err(|error| StageError::refused(error.to_string()))?;
    fs::write(path, json + "\n").map_err(StageError::file(path))
}
