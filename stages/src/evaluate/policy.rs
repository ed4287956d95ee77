//! `evaluate.policy`: samples of a policy, their reward, and how far it went from its reference.
//!
//! Reward alone misleads: a policy can gain it by leaving the reference far behind. So the KL divergence
//! is measured on the same samples, and `evaluate.compare` plots one against the other.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    divergence::sequence_divergences,
    evaluation::Evaluation,
    measured::{Measured, known},
    samples::{
        Conversation, Reward, Sample, by_prompt, mean_over_prompts, pass_at, rate_over_prompts,
    },
    win_rate::win_rate,
};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    context::Context,
    environment::settings::{Came, Environment, Opened, opened},
    error::StageError,
    nn::{batch::Example, config::Head, likelihood::held_out, pretrained::Pretrained},
    port::{Out, file_of, ports},
    prepare::{
        examples::{completions, prompts},
        tally::Fit,
        truncation::TooLong,
    },
    reward::model::scored,
    rollout::{
        asked::Asked,
        decoding::{Decoding, Wanted},
        sampler::Ready,
        trajectories::Trajectory,
    },
    rules::{param, rule, within_context},
    stage::Stage,
};

/// Evaluate a policy.
pub(crate) struct EvaluatePolicy;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    wanted: Wanted,
    /// Whom the policy talks to. By default to nobody: a completion is all that it says.
    #[serde(default)]
    environment: Option<Environment>,
    /// Where completions are right or wrong: how often one of so many is right, for each of these numbers (pass@k).
    #[serde(default)]
    #[schemars(extend("neutral" = []))]
    pass_at: Vec<usize>,
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
    /// For `environment: { from: program }`: the program.
    environment: Option<artifact::File>,
    /// Completions to measure perplexity on.
    completions: Option<artifact::Completions>,
    /// Another policy's evaluation on the same prompts, for a win rate.
    baseline: Option<artifact::Evaluation>,
});
ports!(Outputs {
    /// What was measured, with what, and every sample.
    evaluation: Out<artifact::Evaluation>,
});

impl Stage for EvaluatePolicy {
    const KIND: &'static str = "evaluate.policy";
    const REVISION: u32 = 4;
    const BY_ROW: &'static [&'static str] = &["prompts"];
    const DOC: &'static str = "Sample from a policy and measure reward, KL divergence and win rate.

The KL divergence is from the distribution that was sampled from, after `temperature`, filters and \
penalty, to the reference as it is: the mean over samples of the divergence between the two next-token \
distributions, summed over each completion. Greedy decoding (`temperature: 0`) draws from none, and has no \
KL divergence. Intervals hold 95 % and are over prompts; a single prompt has none. Prompts that leave no room \
for `max_new_tokens` in the policy's context are left out and counted.

With an `environment` the policy talks to it, and the true reward is of the last thing that it says; `environment` is what it was \
given for all, and `turns` how often it spoke. Evaluations with different environments are not compared.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "prompts": 16, "samples_per_prompt": 2, "max_new_tokens": 8 })
    }

    fn advice() -> Vec<Rule> {
        vec![
            rule(
                "only {ended} of the completions end by themselves: rewards are of texts that `max_new_tokens` cut, so \
                 raise it",
                [param("ended").below(0.5)],
            ),
            rule(
                "the policy is {kl} nats from its reference: a learnt reward says little so far from what it was \
                 trained on; compare with the true reward or with people, and raise `beta`",
                [param("kl").above(50)],
            ),
        ]
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Decoding::rules();
        rules.push(within_context("max_new_tokens", "policy"));
        rules
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let head = Head::LanguageModel;
        let device = context.device;
        if inputs.reference.is_some() && !params.wanted.decoding.steering.is_none() {
            return Err(StageError::refused(
                "the divergence of a policy that is steered is not measured: leave `steering` or the `reference` out",
            ));
        }
        let policy = Pretrained::open("policy", &inputs.policy.source, head, device)?;
        // Who does not fit is said before anything is sampled.
        let sampling = params.wanted.decoding.sampling();
        let reference = inputs.reference.as_ref().filter(|_| !sampling.is_greedy());
        let reference = reference
            .map(|it| Pretrained::open("reference", &it.source, head, device))
            .transpose()?;
        if let Some(reference) = &reference {
            reference.same_tokens(&policy)?;
        }
        let judge = inputs.reward_model.as_ref();
        let judge = judge
            .map(|it| Pretrained::open("reward_model", &it.source, Head::Score, device))
            .transpose()?;
        let known_reward = inputs.true_reward.as_ref();
        let known_reward =
            known_reward.map(|it| TrueReward::load(file_of(&it.source)?)).transpose()?;
        let right_or_wrong = known_reward.as_ref().is_some_and(TrueReward::is_right_or_wrong);
        params.check_pass_at(right_or_wrong)?;
        let came =
            Came { true_reward: inputs.true_reward.as_ref(), program: inputs.environment.as_ref() };
        let mut world = opened(params.environment.as_ref(), came)?;
        let prompts = prompts("prompts", &inputs.prompts.source, params.wanted.prompts)?;
        context.summary("prompts_repeated", prompts.repeated as f64);
        let fit = Fit::new(&policy, None, TooLong::Cut)?;
        let others = inputs.completions.as_ref();
        let others = others
            .map(|it| {
                let report = &mut |done, all| context.progress(done, all, "rows read", "");
                completions("completions", &it.source, &policy.codec, fit, true, report)
            })
            .transpose()?;
        let policy_is = &digest(&inputs.policy.source)?;
        let (mut samples, rows) = sampled(
            &params,
            (&policy, policy_is),
            reference.as_ref(),
            Asked::each(prompts),
            world.as_mut(),
            context,
        )?;
        let used = by_prompt(&samples).map(|samples| samples[0].prompt.as_str());
        let mut measured = Measured::on(used, &params.wanted.decoding);
        measured.environment = world.map(|it| it.identity);
        measured.true_reward = known(inputs.true_reward.as_ref().map(|it| &it.source))?;
        measured.reward_model = known(inputs.reward_model.as_ref().map(|it| &it.source))?;
        if let Some(reward) = &known_reward {
            for sample in &mut samples {
                sample.true_reward = Some(reward.score(&sample.prompt, sample.reply()));
            }
        }
        if let Some(judge) = &judge {
            let page = context.page("score", 2, &measured.reward_model);
            let texts = samples.iter().map(|it| ([&*it.prompt, &*it.completion], it.ended));
            let report = |done, of| context.rows(done, of, "samples scored");
            let scores = scored(texts, judge, &page, report)?;
            samples.iter_mut().zip(scores).for_each(|(sample, score)| sample.score = Some(score));
        }
        if let Some(reference) = &reference {
            measured.reference = known(inputs.reference.as_ref().map(|it| &it.source))?;
            let page = context.page("divergence", 2, &(policy_is, &measured.reference, sampling));
            let report = |done, all| context.rows(done, all, "samples compared");
            let models = [&policy.model, &reference.model];
            let divergences = sequence_divergences(models, &rows, &sampling, &page, report)?;
            samples.iter_mut().zip(divergences).for_each(|(sample, kl)| sample.kl = Some(kl));
        } else if inputs.reference.is_some() {
            context.note(
                "greedy decoding draws from no distribution, so there is no KL divergence"
                    .to_owned(),
            );
        }
        let mut evaluation = summed_up(measured, samples, right_or_wrong);
        if let Some(others) = others {
            context.tally("completions_", &others.tally);
            let report = |done, all| context.progress(done, all, "held-out rows", "");
            let found = held_out(&policy.model, &others.rows, report)?;
            evaluation.perplexity = Some(found.loss.exp());
        }
        if let Some(baseline) = &inputs.baseline {
            let baseline = Evaluation::read(file_of(&baseline.source)?, "baseline")?;
            compare(&mut evaluation, &baseline)?;
        }
        evaluation.write(&outputs.evaluation.path)?;
        report(&evaluation, context);
        for k in &params.pass_at {
            if let Some(estimate) = pass_at(&evaluation.samples, *k) {
                context.estimate(&format!("pass_at_{k}"), &estimate);
            }
        }
        Ok(())
    }
}

/// Completions of every prompt that leaves room for one, as text and as tokens.
fn sampled(
    params: &Params,
    policy: (&Pretrained, &str),
    reference: Option<&Pretrained>,
    prompts: Vec<Asked>,
    world: Option<&mut Opened>,
    context: &mut Context,
) -> Result<(Vec<Sample>, Vec<Example>), StageError> {
    let decoding = &params.wanted.decoding;
    let ready = Ready::new("", policy.0, prompts, decoding.room(), context)?;
    if let Some(reference) = reference {
        let longest = ready.longest() + decoding.max_new_tokens;
        reference.bears(longest, "the prompts with their completions")?;
    }
    let (mut samples, mut rows) = (Vec::new(), Vec::new());
    let sum = |log_probs: &[f32]| log_probs.iter().copied().map(f64::from).sum();
    let turns = world.as_ref().map(|it| it.turns);
    let found = ready.sampled(policy, decoding, params.wanted.batch, world, context)?;
    if let Some(turns) = turns {
        let cut = found.iter().filter(|it| it.is_cut(turns)).count();
        context.summary("conversations_cut", cut as f64);
    }
    let each = ready.asked.iter();
    let each = each.flat_map(|asked| std::iter::repeat_n(asked, decoding.samples_per_prompt));
    for (asked, said) in each.zip(found) {
        let Trajectory { prompt, completion, tokens, turns, .. } = said.trajectory(asked, 0, 0);
        samples.push(Sample {
            prompt,
            completion,
            tokens: tokens.of_policy(),
            ended: tokens.ended,
            log_prob: sum(&tokens.log_probs),
            sampling_log_prob: sum(&tokens.sampling_log_probs),
            true_reward: None,
            score: None,
            kl: None,
            conversation: turns.last().map(|last| Conversation {
                turns: turns.len(),
                reply: last.reply.clone(),
                reward: turns.iter().map(|turn| turn.reward).sum(),
            }),
        });
        let own = tokens.own();
        rows.push(Example::of_parts(tokens.ids, own));
    }
    Ok((samples, rows))
}

impl Params {
    /// Refuses what cannot be said, before anything is sampled.
    fn check_pass_at(&self, right_or_wrong: bool) -> Result<(), StageError> {
        let n = self.wanted.decoding.samples_per_prompt;
        if let Some(k) = self.pass_at.iter().find(|k| **k == 0 || **k > n) {
            return Err(StageError::refused(format!(
                "`pass_at` has {k}, and there are {n} samples of each prompt: raise `samples_per_prompt`"
            )));
        }
        let verified = self.environment.as_ref().is_some_and(Environment::is_right_or_wrong);
        if !self.pass_at.is_empty() && !right_or_wrong && !verified {
            return Err(StageError::refused(
                "`pass_at` needs the input `true_reward` of a task whose completions are right or wrong, or an `environment` with \
                 a verifier",
            ));
        }
        Ok(())
    }
}

/// Samples with the means of what they hold.
pub(super) fn summed_up(
    measured: Measured,
    samples: Vec<Sample>,
    right_or_wrong: bool,
) -> Evaluation {
    let mut evaluation = Evaluation::of(measured, samples);
    let samples = &evaluation.samples;
    // A true reward that is 0 or 1 says how often completions are right.
    let true_reward = |sample: &Sample| sample.true_reward;
    evaluation.true_reward = if right_or_wrong {
        rate_over_prompts(samples, true_reward)
    } else {
        mean_over_prompts(samples, true_reward)
    };
    evaluation.score = mean_over_prompts(samples, |sample| sample.score);
    evaluation.kl = mean_over_prompts(samples, |sample| sample.kl);
    evaluation.tokens = mean_over_prompts(samples, |sample| Some(sample.tokens as f64));
    let talked = |of: fn(&Conversation) -> f64| {
        mean_over_prompts(samples, |sample| sample.conversation.as_ref().map(of))
    };
    evaluation.environment = talked(|it| it.reward);
    evaluation.turns = talked(|it| it.turns as f64);
    evaluation.ended = rate_over_prompts(samples, |sample| Some(f64::from(sample.ended)));
    evaluation
}

fn compare(evaluation: &mut Evaluation, baseline: &Evaluation) -> Result<(), StageError> {
    evaluation.measured.comparable(&baseline.measured, ["policy", "baseline"])?;
    let rate = |reward| win_rate(&evaluation.samples, &baseline.samples, reward);
    let [by_true_reward, by_score] = Reward::BOTH.map(rate);
    if by_true_reward.or(by_score).is_none() {
        return Err(StageError::refused(
            "the baseline was judged by another reward, so nothing can be said about who wins: give both \
             evaluations `true_reward`, or both `reward_model`",
        ));
    }
    (evaluation.win_rate_true_reward, evaluation.win_rate_score) = (by_true_reward, by_score);
    Ok(())
}

fn report(evaluation: &Evaluation, context: &mut Context) {
    for (name, estimate) in evaluation.estimates() {
        if let Some(estimate) = estimate {
            context.estimate(name, &estimate);
        }
    }
    if let Some(perplexity) = evaluation.perplexity {
        context.summary("perplexity", perplexity);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::evaluation::tests::evaluation, *};

    #[test]
    fn a_baseline_on_other_prompts_or_under_another_reward_is_refused() {
        let baseline = evaluation(&["A lamp:", "A desk:"], 0.0, 0.0);
        let mut found = evaluation(&["A lamp:", "A desk:"], 1.0, 2.0);
        compare(&mut found, &baseline).unwrap();
        for rate in [found.win_rate_true_reward, found.win_rate_score] {
            assert!((rate.unwrap().value - 1.0).abs() < 1e-12);
        }
        let error = compare(&mut evaluation(&["A lamp:"], 1.0, 2.0), &baseline).unwrap_err();
        assert!(error.to_string().contains("`policy` and `baseline`"), "{error}");
        found.samples.iter_mut().for_each(|sample| sample.score = None);
        let mut other = baseline;
        other.samples.iter_mut().for_each(|sample| sample.true_reward = None);
        let error = compare(&mut found, &other).unwrap_err().to_string();
        assert!(error.contains("judged by another reward"), "{error}");
    }

    #[test]
    fn pass_at_what_cannot_be_said_is_refused() {
        let params = |pass_at: &[usize]| -> Params {
            serde_json::from_value(
                serde_json::json!({ "pass_at": pass_at, "samples_per_prompt": 4 }),
            )
            .unwrap()
        };
        assert!(
            params(&[1, 4]).check_pass_at(true).is_ok() && params(&[]).check_pass_at(false).is_ok()
        );
        for (params, right_or_wrong) in
            [(params(&[5]), true), (params(&[0]), true), (params(&[1]), false)]
        {
            assert!(params.check_pass_at(right_or_wrong).is_err());
        }
    }

    #[test]
    fn how_often_an_answer_is_right_is_a_rate() {
        let found = evaluation(&["1 + 1 =", "2 + 2 ="], 0.0, 0.0);
        let mut samples = found.samples;
        for sample in &mut samples {
            sample.true_reward = Some(1.0);
        }
        let of = |right_or_wrong| {
            let found = summed_up(found.measured.clone(), samples.clone(), right_or_wrong);
            found.true_reward.unwrap().interval.unwrap()
        };
        assert_eq!((of(false).low, of(true).high), (1.0, 1.0));
        assert!(of(true).low < 0.5, "two prompts say little");
    }
}
