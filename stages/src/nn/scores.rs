//! Scores of texts under a reward model.

use tch::{Device, Kind};

use super::{batch::Batch, decoder::Model, distinct::distinct};
use crate::error::StageError;

/// Scores of any number of texts; equal texts have equal scores to the last bit.
pub(crate) fn scores(model: &Model, texts: &[&[u32]]) -> Result<Vec<f64>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let (texts, places) = distinct(texts);
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|text| texts[*text].len());
    let mut scores = vec![0.0; texts.len()];
    for part in order.chunks(64) {
        let ids: Vec<&[u32]> = part.iter().map(|text| texts[*text]).collect();
        let values = model.scores(&Batch::right(&ids, model.pad(), model.device()));
        let values = Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu))?;
        part.iter().zip(values).for_each(|(text, value)| scores[*text] = value);
    }
    Ok(places.into_iter().map(|place| scores[place]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::config::{Config, Head, tests::tiny};

    #[test]
    fn equal_texts_tie_exactly_whatever_stands_beside_them() {
        let config = Config { head: Head::Score, ..tiny() };
        let model = Model::fresh(config, 1, Device::Cpu);
        // Two hundred texts fill several batches, of which the last is small.
        let texts: Vec<Vec<u32>> =
            (0..200_u32).map(|i| (0..=i % 13).map(|j| 2 + (i * j + i) % 9).collect()).collect();
        let twice: Vec<&[u32]> = texts.iter().chain(&texts).map(Vec::as_slice).collect();
        let found = scores(&model, &twice).unwrap();
        assert_eq!(found[..200], found[200..]);
        assert!(found.iter().any(|score| (score - found[0]).abs() > 1e-3));
    }
}
