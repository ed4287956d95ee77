//! Golden numbers of other people's libraries, compared with ours.
//!
//! The fixtures lie outside the repository, where [`oracles::folder`] finds them; without them the tests
//! say so and pass. Shapes, cases and models come from the files alone.

mod direct;
mod distill;
mod forward;
mod generation;
mod logprob;
mod losses;
mod nash;
mod online;
mod ppo;
mod steps;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::{
    nn::{
        decoder::Model,
        model_folder::{self, tests::folder},
        tensors::read_tensors,
    },
    oracles,
};

/// One fixture: `NAME.json` and `NAME.safetensors`.
struct Fixture {
    root: PathBuf,
    json: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// None, with a word about it, when the file is not there.
    fn open(name: &str) -> Option<Self> {
        let root = oracles::folder()?;
        let path = root.join(format!("{name}.json"));
        let Ok(text) = std::fs::read(&path) else {
            println!("skipped: {name}: there is no {}", path.display());
            return None;
        };
        let tensors = root.join(format!("{name}.safetensors"));
        let tensors = if tensors.exists() { all(&tensors) } else { BTreeMap::new() };
        Some(Self { json: serde_json::from_slice(&text).unwrap(), tensors, root })
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }

    /// The model of that folder, or None, with a word about it, when its architecture is not ours.
    fn model(&self, name: &str) -> Option<Model> {
        load(&self.root, name)
    }

    /// The cases whose name is to be shown when something is off.
    fn cases(&self) -> impl Iterator<Item = (&str, &Value)> {
        let cases = self.json["cases"].as_array().expect("the fixture has cases");
        cases.iter().map(|case| (case["name"].as_str().unwrap_or("?"), case))
    }
}

fn all(path: &Path) -> BTreeMap<String, Tensor> {
    read_tensors(path, |_, _| Ok(true)).unwrap().into_iter().collect()
}

fn load(root: &Path, name: &str) -> Option<Model> {
    match model_folder::load(&folder(&root.join(name)), Device::Cpu) {
        Ok(model) => Some(model.trainable()),
        Err(error) if error.to_string().contains("`model_type`") => {
            println!("skipped: {name}: {error}");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// A number, which may be spelt `"nan"`, `"inf"` or `"-inf"`.
fn number(value: &Value) -> f64 {
    let word = value.as_str().map(|word| word.parse().unwrap());
    word.or(value.as_f64()).unwrap_or_else(|| panic!("{value} is no number"))
}

/// How far a number may be off.
#[derive(Clone, Copy)]
struct Within {
    relative: f64,
    absolute: f64,
}

const LOG_PROBS: Within = Within { relative: 0.0, absolute: 5e-5 };
const LOSS: Within = Within { relative: 1e-5, absolute: 1e-6 };

#[track_caller]
fn close(what: &str, ours: f64, theirs: f64, within: Within) {
    let allowed = within.absolute + within.relative * theirs.abs();
    assert!((ours - theirs).abs() <= allowed, "{what}: {ours} is not {theirs} (± {allowed:e})");
}

/// Compares where `mask` is 1.
#[track_caller]
fn all_close(what: &str, ours: &Tensor, theirs: &Tensor, mask: Option<&Tensor>, within: Within) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let gap = (ours.detach() - theirs).abs() - theirs.abs() * within.relative;
    let gap = match mask {
        Some(mask) => gap.masked_fill(&mask.eq(0), 0.0),
        None => gap,
    };
    let gap = gap.to_kind(Kind::Double).max().double_value(&[]);
    assert!(gap <= within.absolute, "{what}: off by {gap:e}");
}
