//! The sampler: completions of prompts, ids in and ids out, each row with a stream of its own.
//!
//! Prompts that leave no room for a completion are left out and counted. What was sampled stands in the ledger, so ten
//! prompts more cost ten prompts.

use crate::{
    artifact::json::Object,
    context::Context,
    error::StageError,
    nn::{
        generate::{Completion, Limits, generate},
        pretrained::Pretrained,
    },
    prepare::examples::Prompts,
    rollout::decoding::Decoding,
};

/// What is to be completed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) prompt: String,
    /// Which of the prompts it is: what is drawn for it hangs on that.
    pub(crate) number: usize,
    /// What else its row holds.
    pub(crate) extra: Object,
}

impl Asked {
    /// Each prompt with its number.
    pub(crate) fn each(prompts: Prompts) -> Vec<Self> {
        let rows = prompts.rows.into_iter().enumerate();
        rows.map(|(number, (prompt, extra))| Self { prompt, number, extra }).collect()
    }
}

/// One completion of one prompt; those of a prompt follow each other.
pub(crate) struct Sampled {
    /// Its prompt, among those that were completed.
    pub(crate) asked: usize,
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) completion: Completion,
    /// The completion as text, without the token that ended it.
    pub(crate) text: String,
    /// Whether it came to an end by itself.
    pub(crate) ended: bool,
}

/// Prompts as token ids, those that leave room for a completion.
pub(crate) struct Ready {
    pub(crate) asked: Vec<Asked>,
    ids: Vec<Vec<u32>>,
}

impl Ready {
    /// Encodes the prompts, leaves out those without room, and says how many.
    pub(crate) fn new(
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
        context.summary("prompts", asked.len() as f64);
        let left_out = all - asked.len();
        context.summary("prompts_left_out", left_out as f64);
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

    /// Completes every prompt `decoding.samples_per_prompt` times, `rows` of them side by side; `policy_is` is the
    /// policy's digest.
    pub(crate) fn sampled(
        &self,
        (policy, policy_is): (&Pretrained, &str),
        decoding: &Decoding,
        rows: usize,
        context: &mut Context,
    ) -> Result<Vec<Sampled>, StageError> {
        let copies = decoding.samples_per_prompt;
        let prompts: Vec<&[u32]> =
            self.ids.iter().flat_map(|ids| std::iter::repeat_n(ids.as_slice(), copies)).collect();
        let eos = policy.model.config.eos.as_slice();
        let limits = Limits { max_new_tokens: decoding.max_new_tokens, budgets: None, eos, rows };
        let mut streams = context.stream("samples");
        let numbers = self.asked.iter().map(|asked| asked.number);
        let draws = numbers.flat_map(|number| streams.at(number).rows(copies)).collect();
        let sampling = decoding.sampling();
        let settings = (policy_is, sampling, limits.max_new_tokens, eos, policy.model.pad());
        let page = context.page("sample", 2, &settings);
        let report = |done| context.rows(done, prompts.len(), "samples");
        let found = generate(&policy.model, &prompts, draws, &sampling, &limits, &page, report)?;
        let sampled = found.into_iter().enumerate().map(|(row, completion)| {
            Ok(Sampled {
                asked: row / copies,
                prompt_ids: prompts[row].to_vec(),
                text: policy.codec.continued(prompts[row], &completion.ids)?,
                ended: completion.ids.last().is_some_and(|last| eos.contains(last)),
                completion,
            })
        });
        sampled.collect()
    }
}
