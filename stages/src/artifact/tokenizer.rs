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
    /// Ids that stand before and after every text, as the tokenizer wants it.
    before: Vec<u32>,
    after: Vec<u32>,
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
        let none = Vec::new;
        let mut codec = Self { tokenizer, before: none(), after: none(), eos, eos_text, pad, bos };
        (codec.before, codec.after) = codec.around()?;
        Ok(codec)
    }

    /// What stands around a text by the tokenizer's own rule.
    fn around(&self) -> Result<(Vec<u32>, Vec<u32>), StageError> {
        const PROBE: &str = "a";
        let (bare, whole) = (self.encode_with(PROBE, false)?, self.encode_with(PROBE, true)?);
        let starts = whole.windows(bare.len().max(1)).position(|window| window == bare);
        Ok(starts.map_or_else(Default::default, |start| {
            (whole[..start].to_vec(), whole[start + bare.len()..].to_vec())
        }))
    }

    /// Ids as the tokenizer's post-processor wants plain text: with its own special tokens, but none twice that
    /// the text has already.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, StageError> {
        let mut ids = self.encode_with(text, true)?;
        if self.after == [self.eos] && text.ends_with(&self.eos_text) {
            ids.pop();
        }
        Ok(self.begun_once(ids))
    }

    /// Ids of a text that goes on: without what the tokenizer puts at the end.
    pub(crate) fn encode_open(&self, text: &str) -> Result<Vec<u32>, StageError> {
        let mut ids = self.encode_with(text, true)?;
        ids.truncate(ids.len().saturating_sub(self.after.len()));
        Ok(self.begun_once(ids))
    }

    /// Without the first token, where that and the text both begin it.
    fn begun_once(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let both = |bos| self.before == [bos] && ids.get(1) == Some(&bos);
        if self.bos.is_some_and(both) {
            ids.remove(0);
        }
        ids
    }

    /// Ids without any token that is not in the text.
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

    /// The text that `ids` add to what `before` says. A token's text may hang on the one before it, as the blanks of
    /// `SentencePiece` do, so both are decoded together.
    pub(crate) fn continued(&self, before: &[u32], ids: &[u32]) -> Result<String, StageError> {
        let (start, whole) = (self.decode(before)?, self.decode(&[before, ids].concat())?);
        // What `before` leaves half-said, like a part of a letter, is said with the rest.
        let start = start.trim_end_matches(char::REPLACEMENT_CHARACTER);
        match whole.strip_prefix(start) {
            Some(rest) => Ok(rest.to_owned()),
            None => self.decode(ids),
        }
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

    /// Two that have one digest make the same ids of every text.
    pub(crate) fn digest(&self) -> Result<String, StageError> {
        let written = self.tokenizer.to_string(false);
        let written =
            written.map_err(|error| StageError::refused(format!("the tokenizer: {error}")))?;
        let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 tokenizer");
        hasher.update(&(self.eos_text.len() as u64).to_le_bytes()).update(self.eos_text.as_bytes());
        Ok(hasher.update(written.as_bytes()).finalize().to_hex().to_string())
    }

    /// Where two tokenizers are not the same, in words.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.eos_text != other.eos_text {
            return Some(format!(
                "one ends texts in `{}`, the other in `{}`",
                self.eos_text, other.eos_text
            ));
        }
        let written = |codec: &Self| codec.tokenizer.to_string(false).ok();
        if written(self).is_some_and(|text| Some(text) == written(other)) {
            return None;
        }
        let size = self.vocabulary().max(other.vocabulary());
        let named = |codec: &Self, id| codec.tokenizer.id_to_token(id);
        let differs = (0..u32::try_from(size).unwrap_or(u32::MAX))
            .find(|id| named(self, *id) != named(other, *id));
        Some(differs.map_or("they take texts apart by different rules".to_owned(), |id| {
            let shown =
                |codec| named(codec, id).map_or("missing".to_owned(), |it| format!("`{it}`"));
            format!("token {id} is {} in one and {} in the other", shown(self), shown(other))
        }))
    }

    /// The token with the largest id, and that id.
    pub(crate) fn last(&self) -> Option<(String, u32)> {
        self.tokenizer.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
    }

    /// The ids of all tokens whose text matches.
    pub(crate) fn tokens_matching(&self, pattern: &regex::Regex) -> Result<Vec<i64>, StageError> {
        let mut found = Vec::new();
        for id in 0..u32::try_from(self.vocabulary()).unwrap_or(u32::MAX) {
            if pattern.is_match(&self.decode(&[id])?) {
                found.push(i64::from(id));
            }
        }
        Ok(found)
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
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::oracles;

    /// Words of a SentencePiece-like tokenizer: blanks are `▁` at the beginning of a word, `<s>` begins a text and
    /// `</s>` ends it, where `template` says so. The words get ids from 2 on.
    pub(crate) fn words(folder: &Path, words: &[&str], template: &[&str]) {
        let special = |id: usize, content: &str| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true })
        };
        let all = ["<s>", "</s>"].iter().chain(words);
        let vocab: serde_json::Map<_, _> =
            all.enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
        let piece = |name: &&str| match *name {
            "A" => json!({ "Sequence": { "id": "A", "type_id": 0 } }),
            name => json!({ "SpecialToken": { "id": name, "type_id": 0 } }),
        };
        let template: Vec<Value> = template.iter().map(piece).collect();
        let token = |id: u32, name: &str| json!({ "id": name, "ids": [id], "tokens": [name] });
        let space = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        let tokenizer = json!({
            "added_tokens": [special(0, "<s>"), special(1, "</s>")],
            "pre_tokenizer": space,
            "decoder": space,
            "post_processor": { "type": "TemplateProcessing", "single": template, "pair": template,
                "special_tokens": { "<s>": token(0, "<s>"), "</s>": token(1, "</s>") } },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": words[0] },
        });
        fs::write(folder.join(FILE), tokenizer.to_string()).unwrap();
        let config = json!({ "bos_token": "<s>", "eos_token": "</s>" });
        fs::write(folder.join(CONFIG_FILE), config.to_string()).unwrap();
    }

    fn sentence_piece(template: &[&str]) -> Codec {
        let folder = tempfile::tempdir().unwrap();
        words(folder.path(), &["▁?", "▁The", "▁desk", "▁is"], template);
        Codec::open(folder.path()).unwrap()
    }

    #[test]
    fn a_completion_has_the_blank_that_its_first_word_begins_with() {
        let codec = sentence_piece(&["A"]);
        let (prompt, whole) =
            (codec.encode_open("The").unwrap(), codec.encode("The desk is").unwrap());
        assert_eq!(codec.continued(&prompt, &whole[1..]).unwrap(), " desk is");
        assert_eq!(codec.continued(&[], &whole).unwrap(), "The desk is");
    }

    #[test]
    fn what_stands_around_a_text_stands_there_once_and_never_inside() {
        let codec = sentence_piece(&["<s>", "A", "</s>"]);
        assert_eq!(codec.encode("The desk").unwrap(), [0, 3, 4, 1]);
        assert_eq!(codec.encode_open("The desk").unwrap(), [0, 3, 4]);
        assert_eq!(codec.encode("<s>The desk</s>").unwrap(), [0, 3, 4, 1]);
        assert_eq!(codec.encode_open("<s>The desk").unwrap(), [0, 3, 4]);
        let plain = sentence_piece(&["A"]);
        assert_eq!(plain.encode("<s>The</s>").unwrap(), [0, 3, 1]);
    }

    #[test]
    fn tokenizers_differ_in_a_token_or_in_their_rules() {
        let other = tempfile::tempdir().unwrap();
        words(other.path(), &["▁?", "▁desk", "▁The", "▁is"], &["A"]);
        let other = Codec::open(other.path()).unwrap();
        let one = sentence_piece(&["A"]);
        assert_eq!(one.difference(&sentence_piece(&["A"])), None);
        let digest = |codec: &Codec| codec.digest().unwrap();
        assert_eq!(digest(&one), digest(&sentence_piece(&["A"])));
        assert_ne!(digest(&one), digest(&other));
        let found = one.difference(&other).unwrap();
        assert_eq!(found, "token 3 is `▁The` in one and `▁desk` in the other");
        assert!(one.difference(&sentence_piece(&["<s>", "A"])).unwrap().contains("rules"));
    }

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
            let ids = codec.encode_with(text, true).unwrap();
            assert_eq!(ids, oracles::ids(&case["ids"]), "{text:?}");
            let bare = codec.encode_bare(text).unwrap();
            assert_eq!(bare, oracles::ids(&case["ids_without_special"]), "{text:?}");
            assert_eq!(codec.decode_all(&ids).unwrap(), case["decoded"], "{text:?}");
            assert_eq!(codec.decode(&ids).unwrap(), case["decoded_skip_special"], "{text:?}");
        }
    }
}
