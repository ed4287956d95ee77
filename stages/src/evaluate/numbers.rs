//! One number of each of many things: of evaluations, curves, or JSON objects, as `evaluate.claim` and `evaluate.replicates` take
//! them.

use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    curve::Steps,
    evaluation::Evaluation,
    label::{self, Label},
    measured::Measured,
};
use crate::{
    artifact,
    error::StageError,
    port::{Many, file_of},
};

/// Which number. Kinds flatten this into their own parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Which {
    /// The number that it is about: of evaluations `true_reward`, `score`, `kl`, `tokens`, `ended`, `perplexity`,
    /// `win_rate_true_reward`, `win_rate_score`, `pass_at_K` (say `pass_at_8`), `duplicates`, `distinct_1`, `distinct_2` or `self_bleu`; of
    /// curves that column; of a JSON file that number.
    pub(super) metric: String,
    #[serde(flatten)]
    pub(super) steps: Steps,
}

/// A number with the place of what it is of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Number {
    pub(super) label: Label,
    pub(super) value: f64,
    /// Of an evaluation: how it was measured.
    pub(super) measured: Option<Measured>,
}

impl Number {
    /// Refuses two evaluations that were not measured alike.
    pub(super) fn comparable(&self, other: &Self) -> Result<(), StageError> {
        match self.measured.as_ref().zip(other.measured.as_ref()) {
            Some((own, theirs)) => {
                let names = [&self.label, &other.label].map(ToString::to_string);
                own.comparable(theirs, [&names[0], &names[1]])
            }
            None => Ok(()),
        }
    }
}

/// That number of everything that came in through `port`.
pub(super) fn numbers(
    port: &str,
    came: &Many<artifact::Numbers>,
    Which { metric, steps }: &Which,
) -> Result<Vec<Number>, StageError> {
    let names: Vec<String> = came.0.iter().map(|(name, _)| name.clone()).collect();
    let mut found = Vec::new();
    for (label, (name, it)) in label::read(&names).into_iter().zip(&came.0) {
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        let wrong = |why: String| StageError::refused(format!("`{port}`, `{name}`: {why}"));
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        let mut measured = None;
        let value = match parsed {
            Some(value) if value.get("gradus_evaluation").is_some() => {
                let evaluation = Evaluation::read(path, name)?;
                let value = evaluation.number(metric);
                measured = Some(evaluation.measured);
                value
            }
            Some(Value::Object(numbers))
                if text.trim_end().lines().count() != 1 || !numbers.contains_key("step") =>
            {
                numbers.get(metric).and_then(Value::as_f64)
            }
            _ => steps.of(&text, metric),
        };
        let value = value.filter(|value| value.is_finite());
        let value = value.ok_or_else(|| wrong(format!("there is no number `{metric}`")))?;
        found.push(Number { label, value, measured });
    }
    Ok(found)
}
