//! The sampler: completions of prompts, ids in and ids out, each row with a stream of its own.
//!
//! Prompts that leave no room for a completion are left out and counted. What was sampled stands in the ledger, so ten
//! prompts more cost ten prompts.

use crate::{
    context::Context,
    environment::settings::Opened,
    error::StageError,
    nn::pretrained::Pretrained,
    rollout::{
        asked::Asked,
        conversation::{Begun, Said, Speaker},
        decoding::Decoding,
    },
};

/// Prompts as token ids, those that leave room for a completion.
pub(crate) struct Ready {
    pub(crate) asked: Vec<Asked>,
    ids: Vec<Vec<u32>>,
}

impl Ready {
    /// Encodes the prompts, leaves out those without room, and says how many by numbers that begin with `prefix`.
    pub(crate) fn new(
        prefix: &str,
        policy: &Pretrained,
        prompts: Vec<Asked>,
        max_new_tokens: usize,
        context: &mut Context,
    ) -> Result<Self, StageError> {
        let room = policy.longest(None)?.saturating_sub(max_new_tokens);
        let all = prompts.len();
        let (mut asked, mut ids) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let encoded = policy.codec.encode_open(&prompt.prompt)?;
            if encoded.len() <= room {
                asked.push(prompt);
                ids.push(encoded);
            }
        }
        if asked.is_empty() {
            return Err(StageError::refused(format!(
                "none of the {all} prompts leaves room for {max_new_tokens} tokens in the policy's context: lower \
                 `max_new_tokens`"
            )));
        }
        context.summary(&format!("{prefix}prompts"), asked.len() as f64);
        let left_out = all - asked.len();
        context.summary(&format!("{prefix}prompts_left_out"), left_out as f64);
        if left_out * 20 > all {
            context.note(format!(
                "{left_out} of {all} prompts were left out: they leave no room for {max_new_tokens} tokens in the policy's \
                 context; lower `max_new_tokens`"
            ));
        }
        Ok(Self { asked, ids })
    }

    pub(crate) fn ids(&self, at: usize) -> &[u32] {
        &self.ids[at]
    }

    /// The tokens of the longest prompt.
    pub(crate) fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Completes every prompt `decoding.samples_per_prompt` times, `rows` of them side by side, those of a prompt behind each
    /// other; `policy_is` is the policy's digest.
    pub(crate) fn sampled(
        &self,
        (policy, policy_is): (&Pretrained, &str),
        decoding: &Decoding,
        rows: usize,
        world: Option<&mut Opened>,
        context: &mut Context,
    ) -> Result<Vec<Said>, StageError> {
        let copies = decoding.samples_per_prompt;
        let mut streams = context.stream("samples");
        let (put_in, steering) = decoding.steering.of(&policy.codec, &policy.model.config.eos)?;
        let prompts: Vec<Vec<u32>> =
            self.ids.iter().map(|ids| ids.iter().copied().chain(put_in).collect()).collect();
        let mut begun = Vec::new();
        for (asked, prompt) in self.asked.iter().zip(&prompts) {
            for draws in streams.at(asked.number).rows(copies) {
                begun.push(Begun { asked, prompt, given: &[], draws });
            }
        }
        let all = begun.len();
        let sampling = decoding.sampling();
        let (max_new_tokens, eos) = (decoding.max_new_tokens, &policy.model.config.eos);
        let settings = (policy_is, sampling, max_new_tokens, eos, policy.model.pad());
        let beams = decoding.beams;
        let steered = (!decoding.steering.is_none()).then_some(&steering);
        let page = match (beams, steered) {
            (1, None) => context.page("sample", 2, &settings),
            (1, Some(_)) => context.page("steered", 2, &(settings, &decoding.steering)),
            _ => context.page("beam", 1, &(settings, beams, &decoding.steering)),
        };
        let speaker = Speaker {
            policy,
            sampling: &sampling,
            beams,
            steering: steered,
            max_new_tokens,
            rows,
            page: &page,
        };
        speaker.converse(begun, world, &mut |done| context.rows(done, all, "samples"))
    }
}
