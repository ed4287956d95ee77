//! A training from the outside, off-line and on-line alike: it iterates, is heard, and its state is kept on the way.

use std::collections::BTreeMap;

use gradus_protocol::Checkpoints;
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::{
    checkpoint::{Keeper, Now, Part, State},
    curve::Point,
    watch::{Best, Watch},
};
use crate::error::StageError;

/// Hears about training; a stage's context is one.
pub(crate) trait Observer {
    fn progress(&mut self, done: usize, total: usize, note: &str) -> Result<(), StageError>;
    fn metric(&mut self, name: &str, step: usize, value: f64);

    /// [`StageError::Cancelled`] if the person asked for an end.
    fn heard(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// The state is about to be written, since the person asked for an end: that may take a while.
    fn saving(&mut self) {}

    /// A line for the person who waits.
    fn note(&mut self, _words: String) {}

    /// Where and how often the state is kept, if at all.
    fn checkpoints(&self) -> Option<Checkpoints> {
        None
    }
}

/// What a training is to the outside, off-line and on-line alike: it takes one step after the other, and what it has learnt can
/// be kept and restored between two of them.
pub(crate) trait Learner {
    /// Takes step number `step`, from 0. [`StageError::Cancelled`] if `observer` heard that it is to end.
    fn iterate(&mut self, step: usize, observer: &mut dyn Observer) -> Result<Point, StageError>;

    /// The weights that it learns, with their optimisers: always the same, in the same order.
    fn parts(&self) -> Vec<Part<'_>>;

    /// The weights that come out of it.
    fn weights(&self) -> &BTreeMap<String, Tensor>;

    /// How it does on what it does not learn from, after `step` steps: numbers by names that begin with `test_`.
    fn measure(
        &mut self,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<Map<String, Value>, StageError>;

    /// What else it has learnt: running means, controllers.
    fn notes(&self) -> Value {
        Value::Null
    }

    /// Stands where `state` was kept; its parts have their values already.
    fn resume(&mut self, state: State) -> Result<Vec<Point>, StageError>;

    /// Whether a step that was given up has left everything as it was before.
    fn is_whole(&self) -> bool;

    /// The parameters with which a training would have ended after so many steps.
    fn reached(&self, step: usize) -> BTreeMap<String, f64>;

    /// What is worth a glance while it runs.
    fn said(&self, point: &Point) -> String;
}

/// What came of a training.
pub(crate) struct Learnt {
    pub(crate) curve: Vec<Point>,
    /// The step after which it measured best, where it was measured.
    pub(crate) best: Option<usize>,
}

/// Takes `steps` steps, or fewer where `watch` ends it. Goes on where an interrupted run of the same stage stood, or a shorter
/// one of the same line ended, to the same bytes.
pub(crate) fn learn(
    learner: &mut dyn Learner,
    steps: usize,
    watch: &Watch,
    observer: &mut dyn Observer,
) -> Result<Learnt, StageError> {
    let mut keeper = Keeper::new(observer.checkpoints());
    let mut best = Best::new(watch, learner.weights());
    let mut curve = match keeper.newest(steps, &parts(learner, &best)) {
        Some(mut state) => {
            observer.note(format!("goes on from step {} of {steps}", state.step));
            best.resume(state.notes["best"].take())?;
            state.notes = state.notes["learner"].take();
            learner.resume(state)?
        }
        None => Vec::new(),
    };
    observer.progress(curve.len(), steps, "")?;
    if best.is_pending() {
        measure(learner, &mut best, &mut curve, observer)?;
    }
    while curve.len() < steps && !best.is_over() {
        let step = curve.len();
        let heard = match learner.iterate(step, observer) {
            Ok(point) => {
                curve.push(point);
                best.wait(watch.is_due(step + 1));
                let measured = if best.is_pending() {
                    measure(learner, &mut best, &mut curve, observer)
                } else {
                    Ok(())
                };
                let point = &curve[step];
                tell(point, observer);
                measured.and_then(|()| observer.progress(step + 1, steps, &learner.said(point)))
            }
            // The state is still that of the step before.
            Err(StageError::Cancelled) if learner.is_whole() => Err(StageError::Cancelled),
            Err(error) => return Err(error),
        };
        let done = curve.len();
        let stopped = matches!(heard, Err(StageError::Cancelled)) && !keeper.holds(done);
        let end = done == steps || best.is_over();
        if if end { keeper.keeps_last() } else { stopped || keeper.is_due(done) } {
            if stopped {
                observer.saving();
            }
            let kept = keeper.keep(&Now {
                step: done,
                end,
                reached: learner.reached(done),
                parts: parts(learner, &best),
                notes: json!({ "learner": learner.notes(), "best": best.notes() }),
                curve: &curve,
            });
            if let Err(error) = kept {
                // The training itself is sound, and may still end well.
                observer.note(format!("a checkpoint cannot be written: {error}"));
            }
        }
        heard?;
    }
    if curve.len() < steps {
        observer
            .note(format!("ended after step {} of {steps}: it measured no better", curve.len()));
    }
    let best = best.settle(learner.weights());
    Ok(Learnt { curve, best })
}

/// All that a checkpoint holds.
fn parts<'l>(learner: &'l dyn Learner, best: &'l Best<'_>) -> Vec<Part<'l>> {
    learner.parts().into_iter().chain(best.part()).collect()
}

/// Measures the learner after its last step. What was broken off stays to be done.
fn measure(
    learner: &mut dyn Learner,
    best: &mut Best<'_>,
    curve: &mut [Point],
    observer: &mut dyn Observer,
) -> Result<(), StageError> {
    let step = curve.len();
    let Some(point) = curve.last_mut() else { return Ok(()) };
    let found = learner.measure(step, observer)?;
    best.take(step, &found, learner.weights())?;
    best.wait(false);
    point.metrics.extend(found);
    Ok(())
}

fn tell(point: &Point, observer: &mut dyn Observer) {
    observer.metric("loss", point.step, point.loss);
    observer.metric("grad_norm", point.step, point.grad_norm);
    for (name, value) in &point.metrics {
        observer.metric(name, point.step, value.as_f64().unwrap_or(f64::NAN));
    }
}
