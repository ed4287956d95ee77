//! `policy.reference`: what a reference thinks of all pairs, once for every training that is held to it.
//!
//! `log π_ref(y | x)` of Rafailov et al. 2023, eq. 7; it does not change while a policy learns, so a sweep over β
//! needs it once.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{config::Head, pretrained::Pretrained},
    policy::log_probs::LogProbs,
    port::{Out, ports},
    prepare::{
        examples::{Pair, pairs},
        tally::Fit,
        truncation::TooLong,
    },
    stage::Stage,
};

/// Log-probabilities of a reference.
pub(crate) struct Reference;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Tokens of prompt and completion that are kept, from the start; the model's context by default. As in the
    /// trainings that are to use it.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to pairs with a longer text. As in the trainings that are to use it.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

ports!(Inputs {
    /// The reference.
    model: artifact::Model,
    /// Pairs that policies will learn from.
    preferences: artifact::Preferences,
    /// Pairs that policies will be tested on.
    test: Option<artifact::Preferences>,
});
ports!(Outputs {
    /// The log-probability of every completion, for `log_probs` of `policy.dpo`.
    log_probs: Out<artifact::LogProbs>,
});

impl Stage for Reference {
    const KIND: &'static str = "policy.reference";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const DOC: &'static str =
        "Compute what a reference thinks of all pairs, once for many trainings.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let source = &inputs.model.source;
        let reference = Pretrained::open("model", source, Head::LanguageModel, context.device)?;
        let fit = Fit::new(&reference, params.max_length, params.too_long)?;
        let test = inputs.test.as_ref().map(|test| ("test_", "test", test));
        let mut all = Vec::new();
        for (prefix, port, rows) in
            [Some(("", "preferences", &inputs.preferences)), test].into_iter().flatten()
        {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            let read = pairs(port, &rows.source, &reference.codec, fit, report)?;
            context.tally(prefix, &read.tally);
            all.extend(read.rows);
        }
        let mut keeper = Keeper::new(context);
        let known = keeper.known();
        let keep = |found: &[f32]| {
            keeper.keep(found);
            Ok(())
        };
        let report = |done, all| context.progress(done, all, "completions", "");
        let all: &[Pair] = &all;
        let found = LogProbs::compute_from(&reference.model, all.iter(), known, keep, report)?;
        context.summary("completions", found.len() as f64);
        context.summary("log_prob_mean", found.mean());
        found.save(&outputs.log_probs.path)
    }
}

/// Keeps what is computed so far, for a try after an interruption.
struct Keeper {
    path: Option<PathBuf>,
    anew: bool,
    every: Duration,
    written: Instant,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    found: Vec<f32>,
    /// Of the numbers, so that damage is noticed.
    digest: String,
}

impl Keeper {
    fn new(context: &Context) -> Self {
        let checkpoints = context.checkpoints.as_ref();
        let path = checkpoints.map(|it| it.folder.join("log_probs.json"));
        let seconds = checkpoints.map_or(0.0, |it| it.every_seconds.clamp(0.0, 1e6));
        let anew = checkpoints.is_some_and(|it| it.anew);
        Self { path, anew, every: Duration::from_secs_f64(seconds), written: Instant::now() }
    }

    /// What an earlier try kept, if it is sound.
    fn known(&self) -> Vec<f32> {
        let path = self.path.as_deref().filter(|_| !self.anew);
        let kept = path.and_then(|path| fs::read(path).ok());
        let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.filter(|kept| kept.digest == digest(&kept.found)).map_or(Vec::new(), |kept| kept.found)
    }

    fn keep(&mut self, found: &[f32]) {
        let Some(path) = self.path.as_deref().filter(|_| self.written.elapsed() >= self.every)
        else {
            return;
        };
        let kept = Kept { found: found.to_vec(), digest: digest(found) };
        let text = serde_json::to_vec(&kept).expect("numbers are JSON");
        if let Err(error) = write(path, &text) {
            // The work itself goes on.
            tracing::warn!(path = %path.display(), %error, "the state is not kept");
        }
        self.written = Instant::now();
    }
}

fn digest(found: &[f32]) -> String {
    let bytes: Vec<u8> = found.iter().flat_map(|it| it.to_le_bytes()).collect();
    blake3::hash(&bytes).to_string()
}

/// Aside first, so that what stands under the name is whole.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let aside = path.with_extension("new");
    fs::write(&aside, text)?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_again_unless_it_is_damaged_or_to_be_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("below").join("log_probs.json");
        let keeper = |anew| Keeper {
            path: Some(path.clone()),
            anew,
            every: Duration::ZERO,
            written: Instant::now(),
        };
        assert!(keeper(false).known().is_empty());
        keeper(false).keep(&[-1.5, -0.1]);
        assert_eq!(keeper(false).known(), [-1.5, -0.1]);
        assert!(keeper(true).known().is_empty());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("-1.5", "-2.5")).unwrap();
        assert!(keeper(false).known().is_empty());
    }
}
