//! Models as Hugging Face folders: `config.json` and `model.safetensors`, or shards with an index.
//!
//! Files come from strangers: everything is checked against the configuration before a tensor is made.
//! What is saved has the same bytes whenever the numbers are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use tch::Device;

use super::{
    config::Config,
    decoder::Model,
    tensors::{read_tensors, write_tensors},
};
use crate::{error::StageError, port::Files};

const LARGEST_JSON: u64 = 16 << 20;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"];

/// Loads a model in float32, whatever it is stored as.
pub(crate) fn load(files: &Files, device: Device) -> Result<Model, StageError> {
    let config = Config::parse(&read_json(files, "config.json")?)?;
    let wanted = config.shapes();
    let mut parameters = BTreeMap::new();
    for (file, names) in shards(files)? {
        let tensors = read_tensors(at(files, &file)?, |name, shape| match wanted.get(name) {
            Some(expected) if *expected == shape => Ok(true),
            Some(expected) => Err(format!("`{name}` has shape {shape:?}, not {expected:?}")),
            None if is_redundant(name, &config) => Ok(false),
            None => Err(format!("`{name}` is no tensor of this architecture")),
        })?;
        for (name, tensor) in tensors {
            if names.as_ref().is_some_and(|names| !names.contains(&name)) {
                return Err(refused(&file, &format!("the index puts `{name}` elsewhere")));
            }
            parameters.insert(name, tensor.to_device(device));
        }
    }
    match wanted.keys().find(|name| !parameters.contains_key(*name)) {
        Some(name) => {
            Err(StageError::refused(format!("the model's files lack the tensor `{name}`")))
        }
        None => Ok(Model { config, parameters }),
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

/// Copies the tokenizer's files from one model to the next.
pub(crate) fn copy_tokenizer(files: &Files, folder: &Path) -> Result<(), StageError> {
    for (name, from) in files.iter().filter(|(name, _)| TOKENIZER.contains(&name.as_str())) {
        let to = folder.join(name);
        // Bytes only: an object of the cache is read-only, and its copy must not be.
        let bytes = std::fs::read(from).map_err(StageError::file(from))?;
        std::fs::write(&to, bytes).map_err(StageError::file(&to))?;
    }
    Ok(())
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
    use crate::nn::config::tests::tiny;

    /// A folder's files by name.
    pub(crate) fn folder(path: &Path) -> Files {
        let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
        entries.map(|e| (e.file_name().into_string().unwrap(), e.path())).collect()
    }

    #[test]
    fn a_saved_model_loads_and_saves_to_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save(&Model::fresh(tiny(), 3, Device::Cpu), one.path()).unwrap();
        save(&load(&folder(one.path()), Device::Cpu).unwrap(), two.path()).unwrap();
        for name in ["config.json", WEIGHTS] {
            let bytes = |at: &Path| std::fs::read(at.join(name)).unwrap();
            assert_eq!(bytes(one.path()), bytes(two.path()), "{name}");
        }
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let place = tempfile::tempdir().unwrap();
        let mut model = Model::fresh(tiny(), 3, Device::Cpu);
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
        save(&Model::fresh(tiny(), 3, Device::Cpu), place.path()).unwrap();
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
