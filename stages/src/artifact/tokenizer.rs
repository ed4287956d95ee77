//! A tokenizer as Hugging Face keeps it: `tokenizer.json`, and the names of the special tokens in
//! `tokenizer_config.json`. A model's folder has both, so either will do.

use std::{fs, path::Path};

use gradus_protocol::Source;
use serde_json::Value;

use crate::error::StageError;

pub(crate) const FILE: &str = "tokenizer.json";
pub(crate) const CONFIG_FILE: &str = "tokenizer_config.json";
/// The largest one in use is a tenth of this.
const MOST_BYTES: u64 = 256 << 20;

/// Text to ids and back.
#[derive(Clone)]
pub(crate) struct Codec {
    tokenizer: tokenizers::Tokenizer,
    pub(crate) eos: u32,
    /// The token that ends a text, as text.
    pub(crate) eos_text: String,
    /// Fills rows up; the end of text where there is no other.
    pub(crate) pad: u32,
    pub(crate) bos: Option<u32>,
}

impl Codec {
    pub(crate) fn load(source: &Source) -> Result<Self, StageError> {
        let Source::Tree(files) = source else {
            return Err(StageError::refused("a tokenizer is a folder with `tokenizer.json`"));
        };
        let file = |name: &str| {
            files.get(name).ok_or_else(|| {
                StageError::refused(format!("there is no `{name}` in the tokenizer's folder"))
            })
        };
        Self::from_files(file(FILE)?, file(CONFIG_FILE)?)
    }

    #[cfg(test)]
    pub(crate) fn open(folder: &Path) -> Result<Self, StageError> {
        Self::from_files(&folder.join(FILE), &folder.join(CONFIG_FILE))
    }

    fn from_files(file: &Path, config: &Path) -> Result<Self, StageError> {
        let wrong = |why: String| StageError::refused(format!("`{}`: {why}", file.display()));
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(read(file)?)
            .map_err(|error| wrong(error.to_string()))?;
        // What the file says about cutting and filling is about somebody else's batches.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
        let config: Value = serde_json::from_slice(&read(config)?)
            .map_err(|error| StageError::refused(format!("`{}`: {error}", config.display())))?;
        let special = |name: &str| token_text(&config[name]);
        let id = |text: &str| {
            tokenizer.token_to_id(text).ok_or_else(|| {
                wrong(format!("the special token `{text}` is not in the vocabulary"))
            })
        };
        let eos_text = special("eos_token")
            .ok_or_else(|| wrong(format!("`{CONFIG_FILE}` names no `eos_token`")))?
            .to_owned();
        let eos = id(&eos_text)?;
        let pad = special("pad_token").map_or(Ok(eos), id)?;
        let bos = special("bos_token").map(id).transpose()?;
        Ok(Self { tokenizer, eos, eos_text, pad, bos })
    }

    /// Ids as the tokenizer's post-processor wants plain text: with its own special tokens.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, StageError> {
        self.encode_with(text, true)
    }

    /// Ids without any token that is not in the text.
    #[cfg(test)]
    pub(crate) fn encode_bare(&self, text: &str) -> Result<Vec<u32>, StageError> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>, StageError> {
        let encoding = self.tokenizer.encode_fast(text, special);
        let encoding = encoding
            .map_err(|error| StageError::refused(format!("a text has no tokens: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text without special tokens.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, StageError> {
        self.decode_with(ids, true)
    }

    /// Text with special tokens spelt out.
    #[cfg(test)]
    pub(crate) fn decode_all(&self, ids: &[u32]) -> Result<String, StageError> {
        self.decode_with(ids, false)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String, StageError> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| StageError::refused(format!("ids have no text: {error}")))
    }

    /// The number of ids, added tokens included.
    pub(crate) fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// A special token is a string, or a record with its `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn read(path: &Path) -> Result<Vec<u8>, StageError> {
    let found = fs::metadata(path).map_err(StageError::file(path))?;
    if found.len() > MOST_BYTES {
        let path = path.display();
        return Err(StageError::refused(format!("`{path}` is larger than {MOST_BYTES} bytes")));
    }
    fs::read(path).map_err(StageError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles;

    #[test]
    fn oracle_ids_and_texts() {
        let Some(folder) = oracles::folder() else { return };
        let codec = Codec::open(&folder.join("tokenizer")).unwrap();
        let oracle = oracles::json(&folder, "data/tokenizer.json");
        let eos = oracle["special"]["eos"].as_u64();
        assert_eq!(Some(u64::from(codec.eos)), eos);
        assert_eq!(Some(u64::from(codec.pad)), oracle["special"]["pad"].as_u64().or(eos));
        assert_eq!(codec.bos.map(u64::from), oracle["special"]["bos"].as_u64());
        assert_eq!(Some(codec.vocabulary() as u64), oracle["special"]["len"].as_u64());
        for case in oracle["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = codec.encode(text).unwrap();
            assert_eq!(ids, oracles::ids(&case["ids"]), "{text:?}");
            let bare = codec.encode_bare(text).unwrap();
            assert_eq!(bare, oracles::ids(&case["ids_without_special"]), "{text:?}");
            assert_eq!(codec.decode_all(&ids).unwrap(), case["decoded"], "{text:?}");
            assert_eq!(codec.decode(&ids).unwrap(), case["decoded_skip_special"], "{text:?}");
        }
    }
}
