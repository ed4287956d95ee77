//! Scores of texts under a reward model.

use tch::{Device, Kind};

use super::{batch::Batch, decoder::Model};
use crate::error::StageError;

/// Scores of any number of texts.
pub(crate) fn scores(model: &Model, texts: &[&[u32]]) -> Result<Vec<f64>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|text| texts[*text].len());
    let mut scores = vec![0.0; texts.len()];
    for part in order.chunks(64) {
        let ids: Vec<&[u32]> = part.iter().map(|text| texts[*text]).collect();
        let values = model.scores(&Batch::right(&ids, model.pad(), model.device()));
        let values = Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu))?;
        part.iter().zip(values).for_each(|(text, value)| scores[*text] = value);
    }
    Ok(scores)
}
