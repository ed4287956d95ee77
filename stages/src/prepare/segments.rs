//! Texts in segments, each with what it is worth: the column `segments`, which `data.score` writes and whoever conditions pretraining
//! on it reads.

use gradus_protocol::Source;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    artifact::{dataset::Row, dataset_folder::Reader, tokenizer::Codec},
    error::StageError,
};

/// The column.
pub(crate) const COLUMN: &str = "segments";

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) text: String,
    /// What it is worth; nothing is said of what a text begins with before its segments.
    #[serde(default)]
    pub(crate) reward: Option<f64>,
}

/// A text with its segments, which are all of it.
pub(crate) struct Segmented {
    pub(crate) row: Row,
    pub(crate) segments: Vec<Segment>,
}

impl Segmented {
    fn of(row: Row) -> Result<Self, String> {
        let column = row.extra.get(COLUMN).ok_or_else(|| {
            format!("there is no column `{COLUMN}`: bring the texts through `data.score`")
        })?;
        let segments: Vec<Segment> = serde_json::from_value(column.clone())
            .map_err(|error| format!("`{COLUMN}` is no list of segments: {error}"))?;
        let whole: String = segments.iter().map(|it| it.text.as_str()).collect();
        if whole != row.prompt() {
            return Err(format!("its `{COLUMN}` are not the text: was it edited since?"));
        }
        if let Some(it) = segments.iter().find(|it| it.reward.is_some_and(|it| !it.is_finite())) {
            return Err(format!("the segment {:?} has no finite reward", it.text));
        }
        Ok(Self { row, segments })
    }

    /// What the segments are worth that are worth something or nothing.
    pub(crate) fn rewards(&self) -> impl Iterator<Item = f64> {
        self.segments.iter().filter_map(|it| it.reward)
    }

    /// Token ids with what ends the text, and the reward of the segment that each is of, 0 of what is of none. Segments are tokenised one
    /// by one, so that no token is of two.
    pub(crate) fn tokens(&self, codec: &Codec) -> Result<(Vec<u32>, Vec<f32>), StageError> {
        let mut ids = codec.encode_open("")?;
        let mut rewards = vec![0.0; ids.len()];
        for segment in &self.segments {
            let own = codec.encode_bare(&segment.text)?;
            #[expect(clippy::cast_possible_truncation, reason = "rewards meet float32 losses")]
            rewards.extend(vec![segment.reward.unwrap_or(0.0) as f32; own.len()]);
            ids.extend(own);
        }
        ids.push(codec.eos);
        rewards.push(0.0);
        Ok((ids, rewards))
    }
}

/// All texts of `port` with their segments; `heard` ends it if a person asked for that.
pub(crate) fn segmented(
    port: &str,
    source: &Source,
    heard: impl Fn() -> Result<(), StageError>,
) -> Result<Vec<Segmented>, StageError> {
    let mut all = Vec::new();
    for (number, row) in Reader::open_some(port, source)?.enumerate() {
        heard()?;
        let wrong = |why| StageError::refused(format!("`{port}`, row {}: {why}", number + 1));
        all.push(Segmented::of(row?).map_err(wrong)?);
    }
    Ok(all)
}

/// Segments as a column has them.
pub(crate) fn column(segments: &[Segment]) -> Value {
    serde_json::to_value(segments).expect("segments are texts and numbers")
}

/// The reward that so large a share of these lies below: of 0 none, of 1 all. Equal rewards are on one side.
pub(crate) fn quantile(rewards: &[f64], share: f64) -> f64 {
    let mut sorted = rewards.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (share.clamp(0.0, 1.0) * sorted.len() as f64).floor() as usize;
    sorted.get(place).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::artifact::dataset::{Fields, TextRow};

    fn row(text: &str, segments: Value) -> Result<Segmented, String> {
        let mut row = Row::from(Fields::Text(TextRow { text: text.to_owned() }));
        row.extra.insert(COLUMN.to_owned(), segments);
        Segmented::of(row)
    }

    #[test]
    fn segments_are_all_of_the_text() {
        let found =
            row("1ab.", json!([{ "text": "1" }, { "text": "ab.", "reward": -0.5 }])).unwrap();
        assert_eq!(found.rewards().collect::<Vec<_>>(), [-0.5]);
        let error = row("1ab.", json!([{ "text": "ab." }])).err().unwrap();
        assert_eq!(error, "its `segments` are not the text: was it edited since?");
        assert!(row("a", json!("a")).err().unwrap().contains("no list of segments"));
        let plain = Row::from(Fields::Text(TextRow { text: "a".to_owned() }));
        assert!(Segmented::of(plain).err().unwrap().contains("through `data.score`"));
    }

    #[test]
    fn a_quantile_parts_rewards() {
        let rewards = [-1.0, 0.0, -0.5, 0.0];
        for (share, by_hand) in [(0.0, -1.0), (0.25, -0.5), (0.5, 0.0), (0.99, 0.0)] {
            assert!((quantile(&rewards, share) - by_hand).abs() < 1e-12, "{share}");
        }
        assert!(quantile(&rewards, 1.0).is_infinite());
    }
}
