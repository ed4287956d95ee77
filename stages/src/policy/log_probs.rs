//! What a model thinks of completions: Σ log p of each, found by the tokens that it is about.
//!
//! So it holds for any data that has these tokens, in any order, and rows that are the same have the same, to the
//! bit. On the disk a line of JSON each.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use gradus_protocol::Page;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::sequences::sequence_log_probs;
use crate::{
    error::StageError,
    nn::{batch::Example, batches, decoder::Model},
    prepare::examples::Pair,
};

/// Names a row: a hash of its ids and of which of them are learnt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Key(String);

impl Key {
    fn of(row: &Example) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 tokens of a row");
        for (id, learn) in row.ids.iter().zip(row.mask()) {
            hasher.update(&id.to_le_bytes()).update(&[u8::from(learn)]);
        }
        Self(hasher.finalize().to_hex()[..32].to_owned())
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    tokens: Key,
    log_prob: f32,
}

/// Log-probabilities in nats, summed over the learnt tokens of a row.
#[derive(Debug, Default)]
pub(crate) struct LogProbs(BTreeMap<Key, f32>);

impl LogProbs {
    /// Adds those of rows, each different one once; those that stand on `page`, which is of this model, are not computed
    /// again.
    pub(crate) fn add<'a>(
        &mut self,
        model: &Model,
        rows: impl Iterator<Item = &'a Example>,
        page: &Page,
        report: impl FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let mut known: HashSet<Key> = self.0.keys().cloned().collect();
        let rows = rows.map(|row| (Key::of(row), row)).filter(|(key, _)| known.insert(key.clone()));
        let (keys, rows): (Vec<Key>, Vec<&Example>) = rows.unzip();
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        let row = |row: usize| &keys[row];
        let found = batches::each_kept(page, row, &lengths, report, |part| {
            let part: Vec<&Example> = part.iter().map(|row| rows[*row]).collect();
            let (sums, _) = sequence_log_probs(model, &part);
            Ok(Vec::<f32>::try_from(sums.to_device(Device::Cpu))?)
        })?;
        if found.iter().any(|log_prob| !log_prob.is_finite()) {
            return Err(StageError::refused(
                "a completion's log-probability is not finite: the model cannot be used",
            ));
        }
        self.0.extend(keys.into_iter().zip(found));
        Ok(())
    }

    /// Those of `[chosen, rejected]` for every pair.
    pub(crate) fn of_pairs(&self, pairs: &[Pair]) -> Result<Vec<[f32; 2]>, StageError> {
        let of = |row: &Example, pair: usize| {
            self.of(row).ok_or_else(|| {
                StageError::refused(format!(
                    "`log_probs` says nothing of pair {}: compute them from the same preferences, with the same \
                     tokenizer, `max_length` and `too_long`",
                    pair + 1
                ))
            })
        };
        let pairs = pairs.iter().enumerate();
        pairs.map(|(i, pair)| Ok([of(&pair.chosen, i)?, of(&pair.rejected, i)?])).collect()
    }

    /// That of a row.
    pub(super) fn of(&self, row: &Example) -> Option<f32> {
        self.0.get(&Key::of(row)).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.values().map(|it| f64::from(*it)).sum::<f64>() / (self.0.len() as f64).max(1.0)
    }

    pub(crate) fn load(path: &Path) -> Result<Self, StageError> {
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        let mut all = BTreeMap::new();
        for (i, line) in text.lines().enumerate() {
            let Line { tokens, log_prob } = serde_json::from_str(line).map_err(|error| {
                StageError::refused(format!("`{}`, line {}: {error}", path.display(), i + 1))
            })?;
            all.insert(tokens, log_prob);
        }
        Ok(Self(all))
    }

    pub(crate) fn save(self, path: &Path) -> Result<(), StageError> {
        let mut text = String::new();
        for (tokens, log_prob) in self.0 {
            text += &serde_json::to_string(&Line { tokens, log_prob }).expect("a line is JSON");
            text.push('\n');
        }
        fs::write(path, text).map_err(StageError::file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nn::{config::tests::tiny, stream::Stream},
        prepare::token_rows::Asked,
    };

    fn pair(chosen: &[u32], rejected: &[u32]) -> Pair {
        let row = |ids: &[u32]| Example::after_prompt(ids.to_vec(), 1);
        Pair { chosen: row(chosen), rejected: row(rejected), asked: Asked::of("") }
    }

    fn model() -> Model {
        Model::fresh(tiny(), Stream::of(1), Device::Cpu)
    }

    fn computed(pairs: &[Pair]) -> LogProbs {
        let mut found = LogProbs::default();
        found
            .add(&model(), pairs.iter().flat_map(Pair::sides), &Page::blank(), |_, _| Ok(()))
            .unwrap();
        found
    }

    #[test]
    fn they_are_found_by_their_tokens_in_any_order_and_come_back_from_the_disk() {
        let pairs = [pair(&[2, 3, 4], &[2, 5]), pair(&[6, 7], &[6, 8, 9])];
        let all = computed(&pairs);
        let found = all.of_pairs(&pairs).unwrap();
        let place = tempfile::tempdir().unwrap();
        all.save(&place.path().join("log_probs")).unwrap();
        let all = LogProbs::load(&place.path().join("log_probs")).unwrap();
        let [one, other] = pairs;
        assert_eq!(all.of_pairs(&[other, one]).unwrap(), [found[1], found[0]]);
        let error = all.of_pairs(&[pair(&[2, 3], &[2, 5])]).unwrap_err().to_string();
        assert!(error.contains("nothing of pair 1"), "{error}");
    }

    #[test]
    fn equal_completions_are_equally_likely_to_the_bit() {
        let mut pairs = vec![pair(&[2, 3, 4, 5, 6], &[2, 3, 4, 5, 6])];
        pairs.extend((0..90).map(|i| pair(&[2, 3, i % 9], &[4, i % 7, 5, 6])));
        let all = computed(&pairs);
        let [chosen, rejected] = all.of_pairs(&pairs).unwrap()[0];
        assert_eq!(chosen.to_bits(), rejected.to_bits());
    }

    #[test]
    fn what_was_cut_off_goes_on_to_the_same_bits() {
        let pairs: Vec<Pair> =
            (0..100).map(|i| pair(&[2, 3, i % 16], &[4, i % 11, 5, i % 13])).collect();
        let place = tempfile::tempdir().unwrap();
        let page = |name: &str| Page::new(Some(&place.path().join(name)), false, "model");
        let compute = |page: &Page, most: usize| {
            let report = |done, _| if done < most { Ok(()) } else { Err(StageError::Cancelled) };
            let mut found = LogProbs::default();
            found.add(&model(), pairs.iter().flat_map(Pair::sides), page, report).map(|()| found)
        };
        let whole = compute(&page("whole"), usize::MAX).unwrap();
        assert!(compute(&page("torn"), 65).is_err());
        let again = compute(&page("torn"), usize::MAX).unwrap();
        assert!(whole.len() > 100 && whole.0 == again.0);
    }
}
