//! Scores of texts under a reward model.

use tch::{Device, Kind};

use super::{batch::Batch, batches, decoder::Model};
use crate::error::StageError;

/// Scores of any number of texts; `report` hears how many are done.
pub(crate) fn scores(
    model: &Model,
    texts: &[&[u32]],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
    batches::each(&lengths, report, |part| {
        let ids: Vec<&[u32]> = part.iter().map(|text| texts[*text]).collect();
        let values = model.scores(&Batch::right(&ids, model.pad(), model.device()));
        Ok(Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu))?)
    })
}
