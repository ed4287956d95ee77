//! Scores of texts under a reward model.

use gradus_protocol::Page;
use tch::{Device, Kind};

use super::{batches, decoder::Model, distinct::distinct};
use crate::error::StageError;

/// Scores of any number of texts; equal texts have equal scores to the last bit. `report` hears how many are
/// done; with a page, which is of this model, those that stand there are not computed again.
pub(crate) fn scores(
    model: &Model,
    texts: &[&[u32]],
    page: Option<&Page>,
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let (texts, places) = distinct(texts);
    let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
    let compute = |part: &[usize]| {
        let ids: Vec<&[u32]> = part.iter().map(|text| texts[*text]).collect();
        let values = model.scores(&ids);
        Ok(Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu))?)
    };
    let scores = match page {
        Some(page) => batches::each_kept(page, |text| texts[text], &lengths, report, compute)?,
        None => batches::each(&lengths, report, compute)?,
    };
    Ok(places.into_iter().map(|place| scores[place]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        config::{Config, Head, tests::tiny},
        stream::Stream,
    };

    #[test]
    fn equal_texts_tie_exactly_whatever_stands_beside_them() {
        let config = Config { head: Head::Score, ..tiny() };
        let model = Model::fresh(config, Stream::of(1), Device::Cpu);
        // Two hundred texts fill several batches, of which the last is small.
        let texts: Vec<Vec<u32>> =
            (0..200_u32).map(|i| (0..=i % 13).map(|j| 2 + (i * j + i) % 9).collect()).collect();
        let twice: Vec<&[u32]> = texts.iter().chain(&texts).map(Vec::as_slice).collect();
        let found = scores(&model, &twice, None, |_, _| Ok(())).unwrap();
        assert_eq!(found[..200], found[200..]);
        assert!(found.iter().any(|score| (score - found[0]).abs() > 1e-3));
    }
}
