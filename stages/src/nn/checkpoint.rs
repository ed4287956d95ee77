//! The state of a training stage on the disk, so that it can go on after any interruption.
//!
//! One folder per step: weights and the moments of their optimiser, of every model that learns, what else the learner
//! notes, the curve so far, and a [`Checkpoint`] with the digest of each. It is written aside, synced and renamed, so what stands under its name is whole; what is damaged
//! all the same is passed over for an older one. Everything else (order of rows, rates) follows from the step.
//!
//! Where rates do not depend on the length, longer and shorter trainings share the folder, and the last state
//! of one is where the next begins.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    time::Instant,
};

use gradus_protocol::{Checkpoint, Checkpoints};
use serde_json::Value;
use tch::Tensor;

use super::{
    adamw::AdamW,
    curve::{Point, write_curve},
    tensors::{read_tensors, write_tensors},
};
use crate::error::StageError;

/// Kept at once: were the newest damaged, the one before it is still there.
const KEPT: usize = 2;
const CURVE: &str = "curve.jsonl";
const NOTES: &str = "notes.json";

/// Of the time that passes between two states, writing the first may take this share at most.
const SHARE: f64 = 0.05;

/// Decides when the state is written, and writes it.
pub(crate) struct Keeper {
    settings: Option<Checkpoints>,
    written: Instant,
    /// What the last one took, in seconds.
    took: f64,
    /// The step of the newest one; before the first step there is nothing to keep.
    newest: usize,
}

/// One model that learns.
pub(crate) struct Part<'a> {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'a BTreeMap<String, Tensor>,
    /// None of what follows others, a running mean of them say.
    pub(crate) optimizer: Option<&'a AdamW>,
}

impl Part<'_> {
    fn weights(&self) -> String {
        format!("{}.safetensors", self.name)
    }

    fn moments(&self) -> String {
        format!("{}.optimizer.safetensors", self.name)
    }
}

/// The files of a state.
fn files(parts: &[Part]) -> Vec<String> {
    let each = parts.iter().flat_map(|part| {
        let moments = part.optimizer.map(|_| part.moments());
        [Some(part.weights()), moments].into_iter().flatten()
    });
    each.chain([CURVE, NOTES].map(str::to_owned)).collect()
}

/// Where training stood; the weights are in place already.
pub(crate) struct State {
    pub(crate) step: usize,
    /// Of the parts that have one, in their order.
    pub(crate) optimizers: Vec<AdamW>,
    pub(crate) notes: Value,
    pub(crate) curve: Vec<Point>,
}

/// Where training stands, to be kept.
pub(crate) struct Now<'a> {
    pub(crate) step: usize,
    /// Nothing comes after this step.
    pub(crate) end: bool,
    /// The parameters with which a training would have ended here.
    pub(crate) reached: BTreeMap<String, f64>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) notes: Value,
    pub(crate) curve: &'a [Point],
}

impl Keeper {
    /// Without `settings` nothing is kept.
    pub(crate) fn new(settings: Option<Checkpoints>) -> Self {
        Self { settings, written: Instant::now(), took: 0.0, newest: 0 }
    }

    /// Loads the newest sound state up to step `most` into `parts`, if there is one.
    pub(crate) fn newest(&mut self, most: usize, parts: &[Part]) -> Option<State> {
        let folder = &self.settings.as_ref()?.folder;
        if self.settings.as_ref().is_some_and(|it| it.anew) {
            let all = Checkpoint::all(folder).into_iter();
            for (_, state) in all.filter(|(step, _)| *step <= most as u64) {
                if let Err(error) = remove(&state) {
                    tracing::warn!(path = %state.display(), %error, "an old state stays");
                }
            }
            return None;
        }
        let states = Checkpoint::all(folder).into_iter();
        for (step, path) in states.rev().filter(|(step, _)| *step <= most as u64) {
            match load(&path, step, parts) {
                Ok(state) => {
                    self.newest = state.step;
                    return Some(state);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "checkpoint passed over");
                }
            }
        }
        None
    }

    /// True when as many steps went by as were asked for, or enough time.
    pub(crate) fn is_due(&self, step: usize) -> bool {
        self.settings.as_ref().is_some_and(|it| {
            let by_steps = it
                .every_steps
                .is_some_and(|every| every > 0 && (step as u64).is_multiple_of(every));
            by_steps
                || self.written.elapsed().as_secs_f64() >= it.every_seconds.max(self.took / SHARE)
        })
    }

    /// True when the state after `step` steps is written already.
    pub(crate) fn holds(&self, step: usize) -> bool {
        step <= self.newest
    }

    /// True when the state at the end is to stay for a longer training.
    pub(crate) fn keeps_last(&self) -> bool {
        self.settings.as_ref().is_some_and(|it| it.keep_last)
    }

    /// Writes the state as it is now, and lets older ones go; at the end all of them.
    pub(crate) fn keep(&mut self, now: &Now) -> Result<(), StageError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let began = Instant::now();
        let kept = write(settings, now);
        // Also after a failure: the next try has time.
        self.written = Instant::now();
        self.took = began.elapsed().as_secs_f64();
        if kept.is_ok() {
            self.newest = now.step;
        }
        kept
    }
}

fn write(settings: &Checkpoints, now: &Now) -> Result<(), StageError> {
    let folder = &settings.folder;
    fs::create_dir_all(folder).map_err(StageError::file(folder))?;
    // Only one worker at a time is at this work, so whatever lies aside is of a dead one.
    let aside = folder.join("new");
    remove(&aside)?;
    fs::create_dir(&aside).map_err(StageError::file(&aside))?;
    for part in &now.parts {
        write_tensors(part.parameters, &aside.join(part.weights()))?;
        if let Some(optimizer) = part.optimizer {
            optimizer.save(&aside.join(part.moments()))?;
        }
    }
    write_curve(now.curve, &aside.join(CURVE))?;
    let notes = aside.join(NOTES);
    fs::write(&notes, now.notes.to_string()).map_err(StageError::file(&notes))?;
    let mut digests = BTreeMap::new();
    for name in files(&now.parts) {
        let path = aside.join(&name);
        digests.insert(name, digest(&path)?);
        sync(&path)?;
    }
    let written = Checkpoint::new(now.step as u64, now.reached.clone(), digests).write(&aside);
    sync(&written.map_err(StageError::file(&aside))?)?;
    sync(&aside)?;
    let place = Checkpoint::place(folder, now.step as u64);
    remove(&place)?;
    fs::rename(&aside, &place).map_err(StageError::file(&place))?;
    sync(folder)?;
    let mut all = Checkpoint::all(folder);
    // What lies ahead is of a longer training.
    all.retain(|(known, _)| *known <= now.step as u64);
    for (_, old) in &all[..all.len().saturating_sub(if now.end { 1 } else { KEPT })] {
        remove(old)?;
    }
    Ok(())
}

fn load(folder: &Path, step: u64, parts: &[Part]) -> Result<State, StageError> {
    let wrong = |why: &str| StageError::refused(why.to_owned());
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(StageError::file(&path))
    };
    let checkpoint = Checkpoint::read(folder).map_err(StageError::file(folder))?;
    if checkpoint.step != step {
        return Err(wrong("it is of another step"));
    }
    for name in files(parts) {
        if checkpoint.files.get(&name) != Some(&digest(&folder.join(&name))?) {
            return Err(wrong(&format!("`{name}` is damaged")));
        }
    }
    let said = |error: serde_json::Error| wrong(&error.to_string());
    let curve = String::from_utf8(read(CURVE)?).map_err(|error| wrong(&error.to_string()))?;
    let curve: Vec<Point> =
        curve.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(said)?;
    let notes = serde_json::from_slice(&read(NOTES)?).map_err(said)?;
    let (mut optimizers, mut weights) = (Vec::new(), Vec::new());
    for part in parts {
        if let Some(optimizer) = part.optimizer {
            let path = folder.join(part.moments());
            optimizers.push(AdamW::load(optimizer.settings(), part.parameters, &path)?);
        }
        let path = folder.join(part.weights());
        let found = read_tensors(&path, |name, shape| match part.parameters.get(name) {
            Some(parameter) if parameter.size() == shape => Ok(true),
            _ => Err(format!("`{name}` is not of this model")),
        })?;
        if found.len() != part.parameters.len() {
            return Err(wrong("it lacks tensors"));
        }
        weights.push(found);
    }
    if curve.len() as u64 != step {
        return Err(wrong("it lacks steps"));
    }
    // Last, when nothing can fail any more: half of a state must not get into the models.
    let _no_grad = tch::no_grad_guard();
    for (part, found) in parts.iter().zip(weights) {
        for (name, value) in found {
            part.parameters[&name].shallow_clone().copy_(&value);
        }
    }
    Ok(State { step: curve.len(), optimizers, notes, curve })
}

fn digest(path: &Path) -> Result<String, StageError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path).map_err(StageError::file(path))?;
    Ok(hasher.finalize().to_string())
}

fn sync(path: &Path) -> Result<(), StageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StageError::file(path))
}

fn remove(path: &Path) -> Result<(), StageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StageError::file(path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::PathBuf};

    use super::*;
    use crate::nn::{
        batch::Example,
        config::tests::tiny,
        decoder::Model,
        learner::Observer,
        likelihood::Likelihood,
        schedule::Decay,
        stream::Stream,
        trainer::{Training, tests::training, train},
    };

    /// Keeps every third step, and interrupts after a number of steps.
    struct Interrupted {
        folder: PathBuf,
        after: usize,
        anew: bool,
        began_at: Option<usize>,
        /// Asks for an end, once so many parts of steps were begun.
        parts: Option<Cell<usize>>,
        saved: bool,
    }

    impl Interrupted {
        fn of(folder: &Path, after: usize) -> Self {
            let anew = folder.join("anew").exists();
            Self {
                folder: folder.to_owned(),
                after,
                anew,
                began_at: None,
                parts: None,
                saved: false,
            }
        }
    }

    impl Observer for Interrupted {
        fn progress(&mut self, done: usize, _: usize, _: &str) -> Result<(), StageError> {
            self.began_at.get_or_insert(done);
            if done == self.after && done > 0 {
                Err(StageError::refused("cut off"))
            } else {
                Ok(())
            }
        }

        fn metric(&mut self, _: &str, _: usize, _: f64) {}

        fn heard(&self) -> Result<(), StageError> {
            match &self.parts {
                Some(left) if left.get() == 0 => Err(StageError::Cancelled),
                Some(left) => {
                    left.set(left.get() - 1);
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn saving(&mut self) {
            self.saved = true;
        }

        fn checkpoints(&self) -> Option<Checkpoints> {
            let folder = self.folder.clone();
            let (every_steps, every_seconds, anew) = (Some(3), 1e9, self.anew);
            Some(Checkpoints { folder, every_steps, every_seconds, keep_last: true, anew })
        }
    }

    #[test]
    fn what_takes_long_to_write_is_written_seldom() {
        let settings = Checkpoints {
            folder: PathBuf::new(),
            every_steps: None,
            every_seconds: 0.0,
            keep_last: false,
            anew: false,
        };
        let mut keeper = Keeper::new(Some(settings));
        assert!(keeper.is_due(1));
        // A twentieth of the time at most: not before 200 seconds.
        keeper.took = 10.0;
        assert!(!keeper.is_due(2));
    }

    fn objective() -> Likelihood {
        let row = |i: u32| {
            Example::after_prompt((0..4 + i % 5).map(|j| 2 + (i + j) % 9).collect::<Vec<_>>(), 1)
        };
        Likelihood::plain((0..16).map(row).collect())
    }

    /// Trains 8 steps, or up to the interruption; gives where it began, the curve and the weights.
    fn trained(folder: &Path, after: usize) -> (usize, Option<String>, Vec<u8>) {
        with_steps(folder, 8, after)
    }

    fn with_steps(folder: &Path, steps: usize, after: usize) -> (usize, Option<String>, Vec<u8>) {
        let mut observer = Interrupted::of(folder, after);
        let (curve, weights) = heard_by(&mut observer, steps, 4);
        (observer.began_at.unwrap_or(steps), curve.ok(), weights)
    }

    fn heard_by(
        observer: &mut Interrupted,
        steps: usize,
        micro_batch: usize,
    ) -> (Result<String, StageError>, Vec<u8>) {
        let model = Model::fresh(tiny(), Stream::of(1), tch::Device::Cpu).trainable();
        let schedule = Decay::Constant;
        let training = Training { steps: Some(steps), schedule, ..training(4, micro_batch) };
        let curve = train(&model, (&objective(), None), &training, Stream::of(9), observer);
        let curve = curve.map(|learnt| serde_json::to_string(&learnt.curve).unwrap());
        let path = observer.folder.join("weights");
        write_tensors(&model.parameters, &path).unwrap();
        (curve, fs::read(path).unwrap())
    }

    fn kept(folder: &Path) -> Vec<u64> {
        Checkpoint::all(folder).into_iter().map(|(step, _)| step).collect()
    }

    fn damage(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn an_interrupted_training_goes_on_to_the_same_bytes() {
        let [whole, broken] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let (_, curve, weights) = trained(whole.path(), usize::MAX);
        assert!(trained(broken.path(), 5).1.is_none());
        let (began_at, again, same) = trained(broken.path(), usize::MAX);
        assert_eq!(began_at, 3);
        assert!(weights == same && curve == again);
    }

    #[test]
    fn a_training_that_is_asked_to_end_within_a_step_keeps_the_one_before() {
        let [whole, broken] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        // A step has two parts.
        let run = |folder: &Path, parts: Option<usize>| {
            let mut observer = Interrupted::of(folder, usize::MAX);
            observer.parts = parts.map(Cell::new);
            let (curve, weights) = heard_by(&mut observer, 8, 2);
            (observer, curve, weights)
        };
        let (_, curve, weights) = run(whole.path(), None);
        let (observer, ended, _) = run(broken.path(), Some(9));
        assert!(observer.saved && matches!(ended, Err(StageError::Cancelled)));
        assert_eq!(kept(broken.path()), [3, 4]);
        // Before it got any further there is nothing to write.
        let (observer, ended, _) = run(broken.path(), Some(1));
        assert!(!observer.saved && matches!(ended, Err(StageError::Cancelled)));
        let (observer, again, same) = run(broken.path(), None);
        assert_eq!(observer.began_at, Some(4));
        assert!(weights == same && curve.unwrap() == again.unwrap());
    }

    #[test]
    fn a_longer_training_goes_on_from_a_shorter_one_to_the_same_bytes() {
        let [whole, grown] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let (_, curve, weights) = with_steps(whole.path(), 11, usize::MAX);
        for (steps, began) in [(5, 0), (5, 5), (8, 5), (11, 8)] {
            let (began_at, again, same) = with_steps(grown.path(), steps, usize::MAX);
            assert_eq!(began_at, began);
            assert_eq!(kept(grown.path()), [steps as u64]);
            assert_eq!(weights == same && curve == again, steps == 11);
        }
    }

    #[test]
    fn a_shorter_training_begins_anew_and_leaves_the_longer_ones_state() {
        let [whole, both] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let (_, curve, weights) = with_steps(whole.path(), 5, usize::MAX);
        with_steps(both.path(), 8, usize::MAX);
        let (began_at, again, same) = with_steps(both.path(), 5, usize::MAX);
        assert_eq!((began_at, kept(both.path())), (0, vec![5, 8]));
        assert!(weights == same && curve == again);
    }

    #[test]
    fn who_is_to_begin_anew_takes_away_what_is_not_ahead() {
        let place = tempfile::tempdir().unwrap();
        with_steps(place.path(), 8, usize::MAX);
        with_steps(place.path(), 5, usize::MAX);
        fs::write(place.path().join("anew"), "").unwrap();
        assert_eq!(with_steps(place.path(), 6, 1).0, 0);
        assert_eq!(kept(place.path()), [8]);
    }

    #[test]
    fn a_damaged_state_is_passed_over_for_the_one_before() {
        for name in
            ["model.safetensors", "model.optimizer.safetensors", CURVE, NOTES, "checkpoint.json"]
        {
            let [whole, broken] = [0, 1].map(|_| tempfile::tempdir().unwrap());
            let (_, _, weights) = trained(whole.path(), usize::MAX);
            trained(broken.path(), 7);
            assert_eq!(kept(broken.path()), [3, 6]);
            damage(&Checkpoint::place(broken.path(), 6).join(name));
            let (began_at, _, same) = trained(broken.path(), usize::MAX);
            assert_eq!(began_at, 3, "{name}");
            assert!(weights == same, "{name}");
        }
    }

    #[test]
    fn what_was_half_written_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("new")).unwrap();
        fs::write(place.path().join("new").join("model.safetensors"), "half").unwrap();
        assert_eq!(trained(place.path(), usize::MAX).0, 0);
    }
}
