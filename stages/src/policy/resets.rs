//! Where completions begin: at the prompt, or within what others have answered it (Chang et al. 2024, "Dataset Reset Policy
//! Optimization for RLHF", Algorithm 1).
//!
//! From there the policy learns in states that it would not reach by itself. It learns from its own tokens alone.

use std::collections::HashMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::pretrained::Pretrained,
    prepare::{examples::completions, tally::Fit, truncation::TooLong},
    rollout::sampler::Ready,
};

pub(super) struct Resets {
    share: f64,
    /// Of every prompt, what others have answered, without its end.
    shown: Vec<Vec<Vec<u32>>>,
}

impl Resets {
    /// Reads the answers; every prompt needs one, of two tokens at least.
    pub(super) fn open(
        policy: &Pretrained,
        came: &artifact::Completions,
        prompts: &Ready,
        share: f64,
        context: &mut Context,
    ) -> Result<Self, StageError> {
        let fit = Fit::new(policy, None, TooLong::drop())?;
        let report = &mut |done, all| context.progress(done, all, "rows read", "");
        let rows = completions("resets", &came.source, &policy.codec, fit, true, report)?;
        context.tally("resets_", &rows.tally);
        let mut known: HashMap<Vec<u32>, Vec<Vec<u32>>> = HashMap::new();
        for row in rows.rows {
            let (prompt, answer) = row.ids.split_at(row.ids.len() - row.labels());
            let eos = &policy.model.config.eos;
            let answer: Vec<u32> =
                answer.iter().copied().take_while(|id| !eos.contains(id)).collect();
            if answer.len() > 1 {
                known.entry(prompt.to_vec()).or_default().push(answer);
            }
        }
        let of = |at: usize| {
            known.get(prompts.ids(at)).cloned().ok_or_else(|| {
                StageError::refused(format!(
                    "`resets` has no answer of two tokens or more to the prompt {:?}: give one, or set `reset_share` to 0",
                    prompts.asked[at].prompt
                ))
            })
        };
        let shown = (0..prompts.asked.len()).map(of).collect::<Result<_, _>>()?;
        Ok(Self { share, shown })
    }

    /// The tokens from which a completion of a prompt goes on: fewer than `longest`, none of a completion that begins at
    /// the prompt.
    pub(super) fn begin(&self, prompt: usize, longest: usize, draw: &mut ChaCha8Rng) -> &[u32] {
        if !draw.random_bool(self.share.clamp(0.0, 1.0)) {
            return &[];
        }
        let answers = &self.shown[prompt];
        let answer = &answers[draw.random_range(0..answers.len())];
        // From every state on the way, the first among them.
        &answer[..draw.random_range(0..answer.len().min(longest))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::stream::Stream;

    #[test]
    fn every_place_is_as_likely_and_none_is_the_end() {
        let answer: Vec<u32> = (10..18).collect();
        let resets = Resets { share: 1.0, shown: vec![vec![answer.clone()]] };
        let mut counts = [0_usize; 8];
        for draws in Stream::of(3).rows(8000) {
            let given = resets.begin(0, 20, &mut draws.generator());
            assert_eq!(given, &answer[..given.len()]);
            counts[given.len()] += 1;
        }
        // χ² with 7 degrees of freedom is below 24.3 in 999 of 1000 cases.
        let far = |count: &usize| (*count as f64 - 1000.0).powi(2) / 1000.0;
        let chi: f64 = counts.iter().map(far).sum();
        assert!(chi < 24.3, "{counts:?}");
        let short = |draws: Stream| resets.begin(0, 3, &mut draws.generator()).len();
        assert!(Stream::of(3).rows(100).all(|draws| short(draws) < 3));
    }

    #[test]
    fn a_share_begins_at_the_prompt() {
        let resets = Resets { share: 0.25, shown: vec![vec![vec![7; 50]]] };
        let given = |draws: Stream| resets.begin(0, 100, &mut draws.generator()).len();
        let reset = Stream::of(3).rows(4000).map(given).filter(|it| *it > 0).count();
        assert!((900..1100).contains(&reset), "{reset}");
        let never = Resets { share: 0.0, ..resets };
        assert!(
            Stream::of(3)
                .rows(100)
                .all(|draws| never.begin(0, 9, &mut draws.generator()).is_empty())
        );
    }
}
