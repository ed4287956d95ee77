//! What a curve comes to as one number.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is taken of the steps that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Take {
    /// Their mean.
    #[default]
    Mean,
    /// The largest: with `within`, say, the best reward within a budget of divergence.
    Largest,
    /// The smallest.
    Smallest,
}

/// Which steps of a curve count, and what is taken of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Steps {
    /// Of curves: how many of the last steps count; 0 stands for all.
    #[serde(default = "one", rename = "last_steps")]
    last: usize,
    /// Of curves: only steps count at which these columns are at most so much.
    #[serde(default)]
    within: BTreeMap<String, f64>,
    /// Of curves: what is taken of the steps that count.
    #[serde(default)]
    take: Take,
}

fn one() -> usize {
    1
}

impl Steps {
    /// The number `metric` of a curve in JSON lines.
    pub(super) fn of(&self, text: &str, metric: &str) -> Option<f64> {
        let value = |line| {
            let step = serde_json::from_str::<Value>(line).ok()?;
            let near =
                |(name, most): (&String, &f64)| step[name].as_f64().is_some_and(|it| it <= *most);
            step[metric].as_f64().filter(|_| self.within.iter().all(near))
        };
        let all: Vec<f64> = text.lines().filter_map(value).collect();
        let count = if self.last == 0 { all.len() } else { self.last.min(all.len()) };
        let values = all[all.len() - count..].iter().copied();
        match self.take {
            Take::Mean => (count > 0).then(|| values.sum::<f64>() / count as f64),
            Take::Largest => values.reduce(f64::max),
            Take::Smallest => values.reduce(f64::min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: &str = "{\"step\":1,\"loss\":3.0,\"kl\":0.1}\n{\"step\":2,\"loss\":2.0,\"kl\":0.2,\"accuracy\":0.5}\n\
                         {\"step\":3,\"loss\":4.0,\"kl\":0.3}\n";

    fn of(steps: &str, metric: &str) -> Option<f64> {
        serde_json::from_str::<Steps>(steps).unwrap().of(CURVE, metric)
    }

    #[test]
    fn the_last_steps_count() {
        assert_eq!(of("{}", "loss"), Some(4.0));
        assert_eq!(of(r#"{"last_steps": 2}"#, "loss"), Some(3.0));
        assert_eq!(of(r#"{"last_steps": 0}"#, "loss"), Some(3.0));
        assert_eq!(of("{}", "accuracy"), Some(0.5));
        assert_eq!(of(r#"{"last_steps": 0}"#, "reward"), None);
    }

    #[test]
    fn a_budget_leaves_steps_out() {
        let within = |steps: &str| {
            of(&format!(r#"{{"last_steps": 0, "within": {{"kl": 0.2}}{steps}}}"#), "loss")
        };
        assert_eq!(within(""), Some(2.5));
        assert_eq!(within(r#", "take": "largest""#), Some(3.0));
        assert_eq!(within(r#", "take": "smallest""#), Some(2.0));
        assert_eq!(of(r#"{"within": {"kl": 0.05}}"#, "loss"), None);
        // A step that does not say is not known to be within.
        assert_eq!(of(r#"{"last_steps": 0, "within": {"accuracy": 1}}"#, "loss"), Some(2.0));
    }
}
