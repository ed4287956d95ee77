//! Models as Hugging Face folders: `config.json` and `model.safetensors`, or shards with an index.
//!
//! Files come from strangers: everything is checked against the configuration before a tensor is made.
//! What is saved has the same bytes whenever the numbers are the same.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tch::{Device, Tensor};

use super::{
    config::{self, Config, Head},
    decoder::Model,
    tensors::{read_tensors, write_tensors},
};
use crate::{error::StageError, port::Files};

const LARGEST_JSON: u64 = 16 << 20;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const GENERATION: &str = "generation_config.json";
/// The largest tokenizers have some tens of megabytes.
const LARGEST_COMPANION: u64 = 256 << 20;

/// Loads a model in float32, whatever it is stored as.
pub(crate) fn load(files: &Files, device: Device) -> Result<Model, StageError> {
    let mut parameters = BTreeMap::new();
    let config = each_tensor(files, true, |name, tensor| {
        parameters.insert(name, tensor.to_device(device));
    })?;
    Ok(Model { config, parameters })
}

/// What the folder says that the model is, if all its tensors are there with their shapes; none is read.
pub(crate) fn look(files: &Files) -> Result<Config, StageError> {
    each_tensor(files, false, |_, _| {})
}

/// Gives every tensor to `take`, if they are to be read.
fn each_tensor(
    files: &Files,
    read: bool,
    mut take: impl FnMut(String, Tensor),
) -> Result<Config, StageError> {
    let config = Config::parse(&read_json(files, "config.json")?)?;
    let wanted = config.shapes();
    let found = RefCell::new(BTreeSet::new());
    for (file, names) in shards(files)? {
        let tensors = read_tensors(at(files, &file)?, |name, shape| match wanted.get(name) {
            Some(expected) if *expected != shape => {
                Err(format!("`{name}` has shape {shape:?}, not {expected:?}"))
            }
            Some(_) if names.as_ref().is_some_and(|names| !names.contains(name)) => {
                Err(format!("the index puts `{name}` elsewhere"))
            }
            Some(_) => {
                found.borrow_mut().insert(name.to_owned());
                Ok(read)
            }
            None if is_redundant(name, &config) => Ok(false),
            None => Err(format!("`{name}` is no tensor of this architecture")),
        })?;
        for (name, tensor) in tensors {
            take(name, tensor);
        }
    }
    let found = found.into_inner();
    match wanted.keys().find(|name| !found.contains(*name)) {
        Some(name) => {
            Err(StageError::refused(format!("the model's files lack the tensor `{name}`")))
        }
        None => Ok(config),
    }
}

/// Writes `config.json` and `model.safetensors` into `folder`, which it makes.
pub(crate) fn save(model: &Model, folder: &Path) -> Result<(), StageError> {
    std::fs::create_dir_all(folder).map_err(StageError::file(folder))?;
    let mut config = serde_json::to_vec_pretty(&model.config.to_json()).expect("a value is JSON");
    config.push(b'\n');
    let path = folder.join("config.json");
    std::fs::write(&path, config).map_err(StageError::file(&path))?;
    write_tensors(&model.parameters, &folder.join(WEIGHTS))
}

/// What a model's folder holds beside configuration and weights, and goes with it: the tokenizer's files, the
/// chat template, `generation_config.json`, licences.
pub(crate) struct Companions {
    files: Files,
    generation: Option<Value>,
    /// The end tokens that `generation_config.json` names.
    pub(crate) eos: Vec<u32>,
}

impl Companions {
    pub(crate) fn of(files: &Files) -> Result<Self, StageError> {
        let mut generation = None;
        if files.contains_key(GENERATION) {
            let found: Value = serde_json::from_slice(&read_json(files, GENERATION)?)
                .map_err(|error| refused(GENERATION, &error.to_string()))?;
            generation = Some(found);
        }
        let eos = generation.as_ref().map_or(&Value::Null, |it| &it["eos_token_id"]);
        let eos = config::ids(eos).map_err(|why| refused(GENERATION, &why))?;
        let mut kept = Files::new();
        for (name, path) in files.iter().filter(|(name, _)| is_companion(name)) {
            let length = std::fs::metadata(path).map_err(StageError::file(path))?.len();
            if length <= LARGEST_COMPANION {
                kept.insert(name.clone(), path.clone());
            }
        }
        Ok(Self { files: kept, generation, eos })
    }

    /// Writes them beside `model`, whose end tokens `generation_config.json` is to name as well.
    pub(crate) fn save(&self, model: &Model, folder: &Path) -> Result<(), StageError> {
        for (name, from) in &self.files {
            let to = folder.join(name);
            // Bytes only: an object of the cache is read-only, and its copy must not be.
            let bytes = std::fs::read(from).map_err(StageError::file(from))?;
            std::fs::write(&to, bytes).map_err(StageError::file(&to))?;
        }
        // A classifier generates nothing.
        if let Some(generation) =
            self.generation.as_ref().filter(|_| model.config.head == Head::LanguageModel)
        {
            let mut generation = generation.clone();
            generation["eos_token_id"] = config::one_or_several(&model.config.eos);
            let to = folder.join(GENERATION);
            let text = format!("{generation:#}\n");
            std::fs::write(&to, text).map_err(StageError::file(&to))?;
        }
        Ok(())
    }
}

/// Small files that say something about the model; not its weights, in whatever form, nor what is written anew.
fn is_companion(name: &str) -> bool {
    let anew = ["config.json", GENERATION];
    let kinds = [".json", ".txt", ".jinja", ".model"];
    let plain = !name.contains('/') && !anew.contains(&name) && !name.ends_with(".index.json");
    plain && (kinds.iter().any(|kind| name.ends_with(kind)) || name.starts_with("LICENSE"))
}

/// Tensors that some checkpoints carry though nothing reads them.
fn is_redundant(name: &str, config: &Config) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight" && config.tie_embeddings
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

type Shards = Vec<(String, Option<BTreeSet<String>>)>;

/// The files that hold tensors and, where an index says so, which.
fn shards(files: &Files) -> Result<Shards, StageError> {
    if files.contains_key(WEIGHTS) {
        return Ok(vec![(WEIGHTS.to_owned(), None)]);
    }
    if !files.contains_key(INDEX) {
        let pickled = files.keys().find(|name| is_pickle(name));
        return Err(StageError::refused(match pickled {
            Some(name) => format!(
                "the model's folder has `{name}` and no `{WEIGHTS}`: pickled weights can run code and are not \
                 read; save them as safetensors"
            ),
            None => format!("the model's folder has neither `{WEIGHTS}` nor `{INDEX}`"),
        }));
    }
    let index: Index = serde_json::from_slice(&read_json(files, INDEX)?)
        .map_err(|error| refused(INDEX, &error.to_string()))?;
    let mut shards = BTreeMap::<_, BTreeSet<_>>::new();
    for (tensor, file) in index.weight_map {
        if file.contains(['/', '\\']) || !file.ends_with(".safetensors") {
            return Err(refused(
                INDEX,
                &format!("`{file}` is no plain name of a safetensors file"),
            ));
        }
        shards.entry(file).or_default().insert(tensor);
    }
    Ok(shards.into_iter().map(|(file, names)| (file, Some(names))).collect())
}

fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"].iter().any(|kind| name.ends_with(kind))
}

fn at<'files>(files: &'files Files, name: &str) -> Result<&'files Path, StageError> {
    let path = files.get(name).map(PathBuf::as_path);
    path.ok_or_else(|| StageError::refused(format!("the model's folder has no `{name}`")))
}

fn read_json(files: &Files, name: &str) -> Result<Vec<u8>, StageError> {
    let path = at(files, name)?;
    let length = std::fs::metadata(path).map_err(StageError::file(path))?.len();
    if length > LARGEST_JSON {
        return Err(refused(name, &format!("{length} bytes are too many")));
    }
    std::fs::read(path).map_err(StageError::file(path))
}

fn refused(file: &str, why: &str) -> StageError {
    StageError::refused(format!("`{file}`: {why}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    /// A folder's files by name.
    pub(crate) fn folder(path: &Path) -> Files {
        let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
        entries.map(|e| (e.file_name().into_string().unwrap(), e.path())).collect()
    }

    #[test]
    fn a_saved_model_loads_and_saves_to_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save(&Model::fresh(tiny(), Stream::of(3), Device::Cpu), one.path()).unwrap();
        save(&load(&folder(one.path()), Device::Cpu).unwrap(), two.path()).unwrap();
        for name in ["config.json", WEIGHTS] {
            let bytes = |at: &Path| std::fs::read(at.join(name)).unwrap();
            assert_eq!(bytes(one.path()), bytes(two.path()), "{name}");
        }
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let place = tempfile::tempdir().unwrap();
        let mut model = Model::fresh(tiny(), Stream::of(3), Device::Cpu);
        let norm = model.parameters.remove("model.norm.weight").unwrap();
        save(&model, place.path()).unwrap();
        let problem = || load(&folder(place.path()), Device::Cpu).err().unwrap().to_string();
        assert!(problem().contains("lack the tensor `model.norm.weight`"));
        model.parameters.insert("model.norm.weight".to_owned(), norm.repeat([2]));
        save(&model, place.path()).unwrap();
        assert!(problem().contains("shape [16], not [8]"));
    }

    #[test]
    fn an_index_names_files_of_its_folder_and_all_they_hold() {
        let place = tempfile::tempdir().unwrap();
        save(&Model::fresh(tiny(), Stream::of(3), Device::Cpu), place.path()).unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::rename(path(WEIGHTS), path("a.safetensors")).unwrap();
        let problem = |file: &str, tensors: &[&str]| {
            let map: BTreeMap<_, _> = tensors.iter().map(|tensor| (*tensor, file)).collect();
            let index = serde_json::json!({ "weight_map": map });
            std::fs::write(path(INDEX), index.to_string()).unwrap();
            load(&folder(place.path()), Device::Cpu).err().unwrap().to_string()
        };
        let one = ["model.norm.weight"];
        assert!(problem("../a.safetensors", &one).contains("no plain name"));
        assert!(problem("b.safetensors", &one).contains("has no `b.safetensors`"));
        assert!(problem("a.safetensors", &one).contains("elsewhere"));
    }
}
