//! One number of each of many things: of evaluations, curves, or JSON objects, as `evaluate.claim` and `evaluate.replicates` take
//! them.

use std::{fs, path::Path};

use gradus_protocol::Source;
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
    context::Context,
    error::StageError,
    nn::statistics::mean,
    port::{Many, file_of},
    rollout::trajectories::{Trajectory, read},
};

/// Which number. Kinds flatten this into their own parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Which {
    /// The number that it is about: of evaluations `true_reward`, `score`, `kl`, `tokens`, `ended`, `perplexity`,
    /// `win_rate_true_reward`, `win_rate_score`, `pass_at_K` (say `pass_at_8`), `duplicates`, `distinct_1`, `distinct_2` or `self_bleu`; of
    /// curves that column; of a JSON file that number; of rollouts the mean of that reward, `reward` being what all come to.
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
        let wrong = |why: String| StageError::refused(format!("`{port}`, `{name}`: {why}"));
        if let Source::Tree(_) = &it.source {
            let value = of_rollouts(&read(port, &it.source)?, metric);
            let value = value.ok_or_else(|| wrong(format!("not all have a reward `{metric}`")))?;
            found.push(Number { label, value, measured: None });
            continue;
        }
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
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

/// Reports numbers, and writes them as a JSON object, of which a claim can be.
pub(super) fn write(
    numbers: &[(&str, f64)],
    path: &Path,
    context: &mut Context,
) -> Result<(), StageError> {
    for (name, value) in numbers {
        context.summary(name, *value);
    }
    let told: serde_json::Map<_, _> =
        numbers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let text = serde_json::to_string_pretty(&told).expect("numbers are JSON") + "\n";
    fs::write(path, text).map_err(StageError::file(path))
}

/// The mean of a reward over rollouts that all have it.
fn of_rollouts(all: &[Trajectory], metric: &str) -> Option<f64> {
    let value = |it: &Trajectory| match metric {
        "reward" => it.reward,
        name => it.rewards.get(name).copied(),
    };
    let values: Option<Vec<f64>> = all.iter().map(value).collect();
    values.filter(|it| !it.is_empty()).map(|it| mean(&it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::trajectories::tests::trajectory;

    #[test]
    fn the_mean_of_a_reward_is_a_number_of_rollouts_that_all_have_it() {
        let mut all = [1.0, 2.0].map(|reward| trajectory(0, 0, reward));
        all[0].rewards.insert("love".to_owned(), 0.5);
        assert_eq!(of_rollouts(&all, "love"), None);
        all[1].rewards.insert("love".to_owned(), 0.25);
        assert_eq!(of_rollouts(&all, "love"), Some(0.375));
        assert_eq!(of_rollouts(&all, "reward"), Some(1.5));
        assert_eq!(of_rollouts(&[], "reward"), None);
    }
}
