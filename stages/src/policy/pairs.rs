//! Pairs of completions and their log-probabilities under a policy and its reference.
//!
//! The reference never changes, so its log-probabilities are computed once, before the first step.

use gradus_protocol::Source;
use tch::Tensor;

use crate::{
    artifact::tokenizer::Codec,
    error::StageError,
    nn::{
        batch::{Batch, Example, learn_mask},
        decoder::Model,
        distinct::distinct,
        logprob,
    },
    prepare::{
        examples::{Preference, preferences},
        rows,
        truncation::Truncation,
    },
};

/// A better and a worse row; what is learnt in both is the completion.
pub(crate) struct Pair {
    pub(crate) chosen: Example,
    pub(crate) rejected: Example,
}

impl Pair {
    /// What both begin with.
    pub(crate) fn prompt(&self) -> &[u32] {
        let end = self.chosen.learn.iter().position(|learn| *learn);
        &self.chosen.ids[..end.unwrap_or(self.chosen.ids.len())]
    }
}

/// Pairs from rows of preferences, cut to `longest` tokens. A pair without a completion left is dropped.
pub(crate) fn read_pairs(
    source: &Source,
    codec: &Codec,
    longest: usize,
) -> Result<Vec<Pair>, StageError> {
    let mut pairs = Vec::new();
    preferences(source, |row: &Preference| {
        let pair = rows::pair(codec, row)?;
        if pair.fits(longest, Truncation::KeepStart) {
            let [chosen, rejected] = pair
                .joined(longest, Truncation::KeepStart)
                .map(|row| Example::after_prompt(row.ids, row.prompt_length));
            pairs.push(Pair { chosen, rejected });
        }
        Ok(())
    })?;
    if pairs.is_empty() {
        return Err(StageError::refused(format!(
            "no pair has a completion within {longest} tokens: raise `max_length`"
        )));
    }
    Ok(pairs)
}

/// Σ log p over the completions: `[rows]`.
pub(crate) fn sequence_log_probs(model: &Model, rows: &[&Example]) -> Tensor {
    let batch = Batch::right(rows, model.pad(), model.device());
    logprob::sum(&logprob::next_token(model, &batch), &learn_mask(rows, model.device()))
}

/// The same as numbers and without gradients, for any number of rows; of equal rows to the last bit.
pub(crate) fn sequence_log_probs_of(
    model: &Model,
    rows: &[&Example],
) -> Result<Vec<f32>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let (rows, places) = distinct(rows);
    // Rows of like length side by side need little padding.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows[*row].ids.len());
    let mut log_probs = vec![0.0; rows.len()];
    for part in order.chunks(64) {
        let batch: Vec<&Example> = part.iter().map(|row| rows[*row]).collect();
        let values =
            Vec::<f32>::try_from(sequence_log_probs(model, &batch).to_device(tch::Device::Cpu))?;
        part.iter().zip(values).for_each(|(row, value)| log_probs[*row] = value);
    }
    Ok(places.into_iter().map(|place| log_probs[place]).collect())
}

/// Log-probabilities of `[chosen, rejected]` for every pair.
pub(crate) fn reference_log_probs(
    reference: &Model,
    pairs: &[Pair],
) -> Result<Vec<[f32; 2]>, StageError> {
    let rows: Vec<&Example> =
        pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
    let log_probs = sequence_log_probs_of(reference, &rows)?;
    Ok(log_probs.chunks(2).map(|pair| [pair[0], pair[1]]).collect())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::config::tests::tiny;

    #[test]
    fn a_model_without_opinions_gives_every_token_one_in_sixteen() {
        let mut model = Model::fresh(tiny(), 1, Device::Cpu);
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().zero_();
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let found = sequence_log_probs_of(&model, &[&rows[0], &rows[1]]).unwrap();
        let by_hand = [3.0, 1.0].map(|tokens| -tokens * 16_f32.ln());
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }
}
