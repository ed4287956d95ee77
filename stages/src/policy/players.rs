//! Who takes part in learning on-line, opened: the policy, and what it is held to.

use super::online::Kept;
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{config::Head, likelihood::Likelihood, pretrained::Pretrained},
    prepare::{
        examples::{completions, prompts},
        tally::Fit,
        truncation::TooLong,
    },
    rollout::{asked::Asked, sampler::Ready},
};

pub(super) struct Players {
    pub(super) policy: Pretrained,
    pub(super) reference: Option<Pretrained>,
}

impl Players {
    /// Opens the policy, which is to learn, and where it is `held` the reference: the policy as it came in, unless another
    /// came.
    pub(super) fn open(
        policy: &artifact::Model,
        reference: Option<&artifact::Model>,
        held: bool,
        context: &Context,
    ) -> Result<Self, StageError> {
        let (speaks, device) = (Head::LanguageModel, context.device);
        let source = &reference.unwrap_or(policy).source;
        let policy = Pretrained::open("policy", &policy.source, speaks, device)?;
        let reference =
            held.then(|| Pretrained::open("reference", source, speaks, device)).transpose()?;
        if let Some(reference) = &reference {
            reference.same_tokens(&policy)?;
        }
        Ok(Self { policy: policy.trainable(), reference })
    }

    /// The prompts of `port` that leave room for a completion; numbers of them begin with `prefix`.
    pub(super) fn ready(
        &self,
        prefix: &str,
        port: &str,
        came: &artifact::Prompts,
        max_new_tokens: usize,
        context: &mut Context,
    ) -> Result<Ready, StageError> {
        let came = prompts(port, &came.source, None)?;
        context.summary(&format!("{prefix}prompts_repeated"), came.repeated as f64);
        let asked = Asked::each(came);
        Ready::new(prefix, &self.policy, asked, max_new_tokens, context)
    }

    /// Where a critic begins: from a model with a score head, or from the policy with a fresh one.
    pub(super) fn critic(
        &self,
        from: Option<&artifact::RewardModel>,
        policy: &artifact::Model,
        context: &mut Context,
    ) -> Result<Pretrained, StageError> {
        let fresh = context.stream("value head");
        let critic = if let Some(it) = from {
            Pretrained::open("critic", &it.source, Head::Score, context.device)?
        } else {
            let head = Head::LanguageModel;
            let base = Pretrained::open("policy", &policy.source, head, context.device)?;
            base.with_score_head(fresh, false)
        };
        critic.same_tokens(&self.policy)?;
        Ok(critic.trainable())
    }

    /// Completions that are to stay likely.
    pub(super) fn kept(
        &self,
        came: &artifact::Completions,
        weight: f64,
        context: &mut Context,
    ) -> Result<Kept, StageError> {
        let fit = Fit::new(&self.policy, None, TooLong::drop())?;
        let report = &mut |done, all| context.progress(done, all, "rows read", "");
        let rows = completions("texts", &came.source, &self.policy.codec, fit, true, report)?;
        context.tally("texts_", &rows.tally);
        let texts = Likelihood { numbers: rows.numbers, ..Likelihood::plain(rows.rows) };
        Ok(Kept { texts, weight, orders: context.stream("texts") })
    }
}
