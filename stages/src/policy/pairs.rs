//! Pairs of completions and their log-probabilities under a policy.

use gradus_protocol::Source;
use tch::{Kind, Tensor};

use crate::{
    artifact::tokenizer::Codec,
    error::StageError,
    nn::{
        batch::{Example, as_i64},
        decoder::Model,
        head::{self, Tail},
        likelihood::learnt,
    },
    prepare::{
        examples::{Preference, Prepared, Report, preferences},
        rows,
        tally::{Fit, Made},
        truncation::{TooLong, Truncation},
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

/// Pairs from the rows of a port. A pair without a completion left is dropped.
pub(crate) fn read_pairs(
    port: &'static str,
    source: &Source,
    codec: &Codec,
    fit: Fit,
    report: Report,
) -> Result<Prepared<Pair>, StageError> {
    preferences(port, source, fit, report, |row: &Preference| {
        let pair = rows::pair(codec, row)?;
        let longest = pair.prompt.len() + pair.chosen.len().max(pair.rejected.len());
        let long = longest > fit.tokens;
        let dropped = long && fit.too_long == TooLong::Drop;
        if dropped || !pair.fits(fit.tokens, Truncation::KeepStart) {
            return Ok(Made::Dropped);
        }
        let [chosen, rejected] = pair
            .joined(fit.tokens, Truncation::KeepStart)
            .map(|row| Example::after_prompt(row.ids, row.prompt_length));
        let pair = Pair { chosen, rejected };
        Ok(if long { Made::Cut(pair) } else { Made::Whole(pair) })
    })
}

/// Σ log p over the completions, `[rows]`, and what is left to do on the way back.
pub(crate) fn sequence_log_probs(model: &Model, rows: &[&Example]) -> (Tensor, Option<Tail>) {
    let bins: Vec<&[Example]> = rows.iter().map(|row| std::slice::from_ref(*row)).collect();
    let (hidden, ids) = learnt(model, &bins);
    let (log_probs, tail) = head::log_probs(model, &hidden, &ids);
    // Each log-probability at a place of its own, so that the sums are the same every time.
    let width = rows.iter().map(|row| row.labels()).max().unwrap_or(0);
    let places =
        rows.iter().enumerate().flat_map(|(r, row)| (0..row.labels()).map(move |i| r * width + i));
    let places: Vec<i64> = places.map(as_i64).collect();
    let places = Tensor::from_slice(&places).to_device(model.device());
    let table = Tensor::zeros([as_i64(rows.len() * width)], (Kind::Float, model.device()));
    let table = table.scatter(0, &places, &log_probs);
    (table.view([as_i64(rows.len()), -1]).sum_dim_intlist(1, false, Kind::Float), tail)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    #[test]
    fn a_model_without_opinions_gives_every_token_one_in_sixteen() {
        let mut model = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().zero_();
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let (found, _) = sequence_log_probs(&model, &[&rows[0], &rows[1]]);
        let by_hand = Tensor::from_slice(&[3_f32, 1.0]) * -16_f64.ln();
        assert!((found - by_hand).abs().max().double_value(&[]) < 1e-5);
    }
}
