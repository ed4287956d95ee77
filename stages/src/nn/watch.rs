//! A training that is measured on the way, on rows that it does not learn from: which weights come out of it, and when it ends
//! early.

use std::collections::BTreeMap;

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use super::checkpoint::Part;
use crate::{
    error::StageError,
    rules::{param, rule},
};

/// Which weights come out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keep {
    /// Those after the last step.
    #[default]
    Last,
    /// Those that measured best.
    Best,
}

/// How a training is watched. Kinds flatten this into their own parameters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct Watch {
    /// After every so many steps (iterations, of who learns on-line) it is measured on `test`, and the curve has what came of
    /// it; 0 waits for the end.
    #[serde(default)]
    evaluate_every: usize,
    /// Which weights come out.
    #[serde(default)]
    keep: Keep,
    /// What `keep` and `patience` go by: a number that is measured, `test_accuracy` say. Less of a loss is better, and more of
    /// all others. By default `test_loss`, or `test_reward` of who learns on-line.
    #[serde(default)]
    best_by: Option<String>,
    /// The training ends once it has measured no better than the best so many times in a row.
    #[serde(default)]
    #[schemars(range(min = 1))]
    patience: Option<usize>,
}

impl Watch {
    /// What its parameters must not say together.
    pub(crate) fn rules() -> Vec<Rule> {
        vec![
            rule(
                "`keep: best` keeps what measures best, and nothing is measured: set `evaluate_every`",
                [param("keep").is(["best"]), param("evaluate_every").is([0])],
            ),
            rule(
                "`patience` counts measurements, and nothing is measured: set `evaluate_every`",
                [param("patience").above(0), param("evaluate_every").is([0])],
            ),
            rule(
                "`evaluate_every` measures on `test`, and none came in",
                [param("evaluate_every").above(0), param("inputs.test").missing()],
            ),
        ]
    }

    pub(super) fn is_due(&self, step: usize) -> bool {
        self.evaluate_every > 0 && step.is_multiple_of(self.evaluate_every)
    }
}

/// What has measured best so far.
pub(super) struct Best<'w> {
    watch: &'w Watch,
    seen: Seen,
    /// Where weights are to be kept: a copy of them.
    weights: Option<BTreeMap<String, Tensor>>,
}

/// What of it a checkpoint notes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// The best, and after which step.
    best: Option<(f64, usize)>,
    /// How often nothing better came since.
    stale: usize,
    /// A step whose measurement was broken off.
    pending: bool,
}

impl<'w> Best<'w> {
    pub(super) fn new(watch: &'w Watch, weights: &BTreeMap<String, Tensor>) -> Self {
        let copy = |(name, value): (&String, &Tensor)| (name.clone(), value.detach().copy());
        let keeps = watch.keep == Keep::Best;
        Self {
            watch,
            seen: Seen::default(),
            weights: keeps.then(|| weights.iter().map(copy).collect()),
        }
    }

    /// For checkpoints.
    pub(super) fn part(&self) -> Option<Part<'_>> {
        let parameters = self.weights.as_ref()?;
        Some(Part { name: "best", parameters, optimizer: None })
    }

    pub(super) fn notes(&self) -> Value {
        serde_json::json!(self.seen)
    }

    pub(super) fn resume(&mut self, notes: Value) -> Result<(), StageError> {
        let seen = serde_json::from_value(notes);
        self.seen =
            seen.map_err(|error| StageError::refused(format!("the checkpoint: {error}")))?;
        Ok(())
    }

    pub(super) fn is_pending(&self) -> bool {
        self.seen.pending
    }

    /// That the step under way is still to be measured, or is measured.
    pub(super) fn wait(&mut self, pending: bool) {
        self.seen.pending = pending;
    }

    /// Takes in what came of measuring after `step`.
    pub(super) fn take(
        &mut self,
        step: usize,
        found: &Map<String, Value>,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), StageError> {
        if self.weights.is_none() && self.watch.patience.is_none() {
            return Ok(());
        }
        let usual = ["test_loss", "test_reward"].into_iter().find(|it| found.contains_key(*it));
        let name = self.watch.best_by.as_deref().or(usual).unwrap_or_default();
        let value = found.get(name).and_then(Value::as_f64).ok_or_else(|| {
            let known: Vec<_> = found.keys().map(|it| format!("`{it}`")).collect();
            StageError::refused(format!(
                "`best_by` is `{name}`, and what is measured is {}",
                known.join(", ")
            ))
        })?;
        if !value.is_finite() {
            return Err(StageError::refused(format!(
                "after step {step} `{name}` is {value}: a lower `learning_rate` may help"
            )));
        }
        let is_better = |(best, _): (f64, usize)| {
            if name.ends_with("loss") { value < best } else { value > best }
        };
        if self.seen.best.is_none_or(is_better) {
            self.seen.best = Some((value, step));
            self.seen.stale = 0;
            let _no_grad = tch::no_grad_guard();
            for (name, kept) in self.weights.iter_mut().flatten() {
                kept.copy_(&weights[name]);
            }
        } else {
            self.seen.stale += 1;
        }
        Ok(())
    }

    /// Whether nothing better is to be expected.
    pub(super) fn is_over(&self) -> bool {
        self.watch.patience.is_some_and(|most| self.seen.stale >= most)
    }

    /// Puts what measured best into `weights`, where that was asked for; says after which step it was.
    pub(super) fn settle(self, weights: &BTreeMap<String, Tensor>) -> Option<usize> {
        let (_, step) = self.seen.best?;
        let _no_grad = tch::no_grad_guard();
        for (name, kept) in self.weights.iter().flatten() {
            weights[name].shallow_clone().copy_(kept);
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(watch: &Value, values: &[f64]) -> (Option<usize>, Vec<bool>, f64) {
        let watch: Watch = serde_json::from_value(watch.clone()).unwrap();
        let weights = BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[0_f32]))]);
        let mut best = Best::new(&watch, &weights);
        let mut over = Vec::new();
        for (step, value) in values.iter().enumerate() {
            let _ = weights["w"].shallow_clone().fill_(step as f64);
            let found = serde_json::json!({ "test_loss": value, "test_accuracy": value });
            best.take(step, found.as_object().unwrap(), &weights).unwrap();
            // As a checkpoint has it.
            let notes = best.notes();
            best.resume(notes).unwrap();
            over.push(best.is_over());
        }
        (best.settle(&weights), over, weights["w"].double_value(&[0]))
    }

    #[test]
    fn the_least_loss_or_the_most_of_another_number_comes_out_and_patience_ends() {
        let values = [3.0, 1.0, 2.0, 1.0, 4.0];
        let (step, over, weight) =
            seen(&serde_json::json!({ "keep": "best", "patience": 3 }), &values);
        assert_eq!((step, weight), (Some(1), 1.0));
        assert_eq!(over, [false, false, false, false, true]);
        let by = serde_json::json!({ "keep": "best", "best_by": "test_accuracy" });
        let (step, over, weight) = seen(&by, &values);
        assert_eq!((step, weight), (Some(4), 4.0));
        assert!(!over.contains(&true));
        // Who keeps the last keeps it.
        let (step, _, weight) = seen(&serde_json::json!({ "patience": 9 }), &values);
        assert_eq!((step, weight), (Some(1), 4.0));
    }

    #[test]
    fn a_number_that_is_not_measured_is_refused_with_those_that_are() {
        let watch: Watch =
            serde_json::from_value(serde_json::json!({ "keep": "best", "best_by": "accuracy" }))
                .unwrap();
        let mut best = Best::new(&watch, &BTreeMap::new());
        let found = serde_json::json!({ "test_accuracy": 0.5, "test_loss": 1.0 });
        let error = best.take(3, found.as_object().unwrap(), &BTreeMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`best_by` is `accuracy`, and what is measured is `test_accuracy`, `test_loss`"
        );
    }
}
