//! A model as stages take it in and hand it on: weights and tokenizer that fit each other.
//!
//! What does not fit is said before anything is computed, and who is who.

use std::path::Path;

use gradus_protocol::Source;
use tch::Device;

use super::{
    config::{Config, Head},
    decoder::Model,
    model_folder::{self, Companions},
    stream::Stream,
};
use crate::{artifact::tokenizer::Codec, error::StageError, port::files_of};

/// A model with its tokenizer, and what else its folder holds.
pub(crate) struct Pretrained {
    /// What it is to the stage, e.g. `reference`.
    role: &'static str,
    pub(crate) model: Model,
    pub(crate) codec: Codec,
    companions: Companions,
}

impl Pretrained {
    /// Loads the model that came in as `role`.
    pub(crate) fn open(
        role: &'static str,
        source: &Source,
        head: Head,
        device: Device,
    ) -> Result<Self, StageError> {
        let open = || {
            let files = files_of(source)?;
            let codec = Codec::load(source)?;
            let mut model = model_folder::load(files, device)?.expecting(head)?;
            let companions = Companions::of(files)?;
            fits(&codec, &model.config)?;
            model.check_finite()?;
            // Whatever says that it ends a text does: first what is taught, then what the files name.
            let named = model.config.eos.iter().chain(&companions.eos).copied();
            let mut eos = vec![codec.eos];
            for id in named {
                if !eos.contains(&id) {
                    eos.push(id);
                }
            }
            model.config.eos = eos;
            model.config.check().map_err(StageError::Refused)?;
            Ok(Self { role, model, codec, companions })
        };
        open().map_err(|error: StageError| error.about(role))
    }

    /// Loads a model of which the trunk alone counts, whatever its head.
    pub(crate) fn trunk(
        role: &'static str,
        source: &Source,
        device: Device,
    ) -> Result<Self, StageError> {
        let head = files_of(source).and_then(model_folder::look);
        Self::open(role, source, head.map_err(|error| error.about(role))?.head, device)
    }

    /// The same with a fresh scalar head in place of the language model's, or beside it while it still `speaks`.
    pub(crate) fn with_score_head(self, weights: Stream, speaks: bool) -> Self {
        let mut model = self.model.with_score_head(weights, speaks);
        model.config.pad = Some(self.codec.pad);
        Self { model, ..self }
    }

    /// Another model with this one's tokenizer and what else its folder holds.
    pub(crate) fn with_model(self, model: Model) -> Self {
        Self { model, ..self }
    }

    /// The same with a scalar head beside the language model's that expects nothing yet: it learns with the rest, and is not kept.
    pub(crate) fn with_values(self) -> Self {
        let pad = self.model.config.pad;
        let mut model = self.model.with_score_head(Stream::of(0), true);
        model.config.pad = pad;
        if let Some(head) = model.parameters.get_mut("score.weight") {
            let _ = head.zero_();
        }
        Self { model, ..self }
    }

    /// The same without it.
    pub(crate) fn without_values(self) -> Self {
        Self { model: self.model.without_score_head(), ..self }
    }

    /// The same without the head of a language model, where one stands beside another.
    pub(crate) fn without_language_head(self) -> Self {
        Self { model: self.model.without_language_head(), ..self }
    }

    /// Makes every parameter a leaf that collects gradients.
    pub(crate) fn trainable(self) -> Self {
        Self { model: self.model.trainable(), ..self }
    }

    /// Refuses two models whose token ids do not mean the same.
    pub(crate) fn same_tokens(&self, other: &Self) -> Result<(), StageError> {
        let (ours, theirs) = (self.model.config.vocab_size, other.model.config.vocab_size);
        let difference = self.codec.difference(&other.codec).or_else(|| {
            (ours != theirs).then(|| format!("their embeddings have {ours} and {theirs} rows"))
        });
        match difference {
            None => Ok(()),
            Some(difference) => Err(StageError::refused(format!(
                "{} and {} do not share a tokenizer: {difference}",
                self.role, other.role
            ))),
        }
    }

    /// Refuses rows of `tokens` tokens that the context is too short for.
    pub(crate) fn bears(&self, tokens: usize, rows: &str) -> Result<(), StageError> {
        let context = self.model.context();
        if tokens <= context {
            return Ok(());
        }
        Err(StageError::refused(format!(
            "{rows} have up to {tokens} tokens, and the context of {} has {context}",
            self.role
        )))
    }

    /// The longest row: `wanted`, or as long as the context.
    pub(crate) fn longest(&self, wanted: Option<usize>) -> Result<usize, StageError> {
        match wanted {
            Some(wanted) if wanted > self.model.context() => Err(StageError::refused(format!(
                "`max_length` is {wanted}, and the context of {} has {} tokens",
                self.role,
                self.model.context()
            ))),
            wanted => Ok(wanted.unwrap_or(self.model.context())),
        }
    }

    /// Writes a folder that holds it all again.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), StageError> {
        self.model.check_finite().map_err(|error| error.about(self.role))?;
        model_folder::save(&self.model, folder)?;
        self.companions.save(&self.model, folder)
    }
}

/// What the folder says that the model is, if it can be used; its weights are not read.
pub(crate) fn look(source: &Source, head: Head) -> Result<Config, StageError> {
    let files = files_of(source)?;
    let config = model_folder::look(files)?;
    let codec = Codec::load(source)?;
    config.expect(head).map_err(StageError::refused)?;
    Companions::of(files)?;
    fits(&codec, &config)?;
    Ok(config)
}

/// Refuses a tokenizer with tokens that the model has no embedding for.
fn fits(codec: &Codec, config: &Config) -> Result<(), StageError> {
    let size = config.vocab_size;
    match codec.last().filter(|(_, id)| i64::from(*id) >= size) {
        None => Ok(()),
        Some((token, id)) => Err(StageError::refused(format!(
            "the tokenizer has token {id} `{token}`, and the model's embedding ends at {}: is it the \
             tokenizer of another model?",
            size - 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        artifact::tokenizer::tests::words,
        nn::{
            config::{Config, tests::tiny},
            model_folder::tests::folder,
        },
    };

    /// A tiny model with a tokenizer of seven tokens, whose last is `▁is`, in a folder.
    fn made(config: Config, words_of_it: &[&str]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        model_folder::save(&Model::fresh(config, Stream::of(1), Device::Cpu), place.path())
            .unwrap();
        words(place.path(), words_of_it, &["A"]);
        place
    }

    const WORDS: [&str; 5] = ["▁?", "▁The", "▁desk", "▁is", "▁a"];

    fn open(place: &Path, role: &'static str) -> Result<Pretrained, String> {
        let source = Source::Tree(folder(place));
        Pretrained::open(role, &source, Head::LanguageModel, Device::Cpu)
            .map_err(|it| it.to_string())
    }

    fn json(place: &Path, name: &str) -> Value {
        serde_json::from_slice(&fs::read(place.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn all_files_name_one_set_of_end_tokens_and_a_saved_model_says_it_everywhere() {
        let place = made(Config { eos: vec![5], ..tiny() }, &WORDS);
        let generation = json!({ "eos_token_id": [6, 5], "top_p": 0.9 });
        fs::write(place.path().join("generation_config.json"), generation.to_string()).unwrap();
        fs::write(place.path().join("LICENSE.txt"), "free").unwrap();
        let model = open(place.path(), "model").unwrap();
        // What is taught comes first.
        assert_eq!(model.model.config.eos, [1, 5, 6]);
        let saved = tempfile::tempdir().unwrap();
        let saved = saved.path().join("model");
        model.save(&saved).unwrap();
        assert_eq!(json(&saved, "config.json")["eos_token_id"], json!([1, 5, 6]));
        let generation = json(&saved, "generation_config.json");
        assert_eq!(generation, json!({ "eos_token_id": [1, 5, 6], "top_p": 0.9 }));
        assert_eq!(fs::read_to_string(saved.join("LICENSE.txt")).unwrap(), "free");
        open(&saved, "model").unwrap();
    }

    #[test]
    fn what_does_not_fit_is_said_with_who_is_who() {
        let words: Vec<String> = (0..15).map(|i| format!("▁w{i}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let error = open(made(tiny(), &words).path(), "policy").err().unwrap();
        assert!(error.contains("policy: the tokenizer has token 16 `▁w14`"), "{error}");
        assert!(error.contains("embedding ends at 15"), "{error}");
        let one = open(made(tiny(), &WORDS).path(), "policy").unwrap();
        let swapped = ["▁?", "▁desk", "▁The", "▁is", "▁a"];
        let other = open(made(tiny(), &swapped).path(), "reference").unwrap();
        let error = other.same_tokens(&one).unwrap_err().to_string();
        assert!(
            error.contains("reference and policy do not share a tokenizer: token 3"),
            "{error}"
        );
        one.same_tokens(&one).unwrap();
        let error = one.bears(33, "the pairs").unwrap_err().to_string();
        assert!(error.contains("the pairs have up to 33 tokens, and the context of policy has 32"));
        assert!(one.longest(Some(33)).unwrap_err().to_string().contains("context of policy"));
    }

    #[test]
    fn weights_that_are_no_numbers_are_neither_read_nor_written() {
        let place = made(tiny(), &WORDS);
        let model = open(place.path(), "model").unwrap();
        let _ = model.model.parameters["model.norm.weight"].get(3).fill_(f64::NAN);
        let saved = tempfile::tempdir().unwrap();
        let error = model.save(&saved.path().join("model")).unwrap_err().to_string();
        assert!(error.contains("`model.norm.weight` hold NaN"), "{error}");
        model_folder::save(&model.model, place.path()).unwrap();
        let error = open(place.path(), "model").err().unwrap();
        assert!(error.contains("`model.norm.weight` hold NaN"), "{error}");
    }

    #[test]
    fn dropout_and_pickled_weights_are_refused_by_name() {
        let place = made(tiny(), &WORDS);
        let mut config = json(place.path(), "config.json");
        config["attention_dropout"] = json!(0.1);
        fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        assert!(open(place.path(), "model").err().unwrap().contains("`attention_dropout` 0.1"));
        let place = made(tiny(), &WORDS);
        let weights = |name: &str| place.path().join(name);
        fs::rename(weights("model.safetensors"), weights("pytorch_model.bin")).unwrap();
        assert!(open(place.path(), "model").err().unwrap().contains("pickled"));
        fs::write(weights("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n")
            .unwrap();
        assert!(open(place.path(), "model").err().unwrap().contains("Git LFS pointer"));
    }
}
