//! `data.tokenizer`: byte-level BPE learnt from rows, as GPT-2 has it. Every text has tokens, as
//! all 256 bytes are in the vocabulary. The same rows give the same bytes.

use std::{fs, path::Path};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokenizers::{
    AddedToken, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::NormalizerWrapper,
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::{
    artifact::{
        self,
        dataset::{Fields, Row},
        dataset_folder::Reader,
        tokenizer::{CONFIG_FILE, FILE},
    },
    context::Context,
    error::StageError,
    port::{Out, ports},
    stage::Stage,
};

const EOS: &str = "<|endoftext|>";
const PAD: &str = "<|pad|>";

/// Learn a tokenizer.
pub(crate) struct TrainTokenizer;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Tokens in the vocabulary, of which 256 are bytes and 2 are special. More make texts shorter
    /// and the model's embedding larger.
    #[serde(default = "default_vocab_size")]
    #[schemars(range(min = 258, max = 1_000_000))]
    vocab_size: usize,
    /// Tokens of your own that are never split, beside `<|endoftext|>` and `<|pad|>`.
    #[serde(default)]
    special_tokens: Vec<String>,
}

fn default_vocab_size() -> usize {
    512
}

ports!(Inputs {
    /// The rows to learn from; all their texts count.
    rows: artifact::Rows,
});
ports!(Outputs {
    /// The tokenizer.
    tokenizer: Out<artifact::Tokenizer>,
});

impl Stage for TrainTokenizer {
    const KIND: &'static str = "data.tokenizer";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn a byte-level BPE tokenizer from rows.";
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let mut texts = Vec::new();
        for row in Reader::open(&inputs.rows.source)? {
            context.heard()?;
            texts.extend(texts_of(row?));
        }
        let size = train(&params, &texts, &outputs.tokenizer.path)?;
        context.summary("vocabulary", size as f64);
        Ok(())
    }
}

fn texts_of(row: Row) -> Vec<String> {
    match row.fields {
        Fields::Text(row) => vec![row.text],
        Fields::Prompt(row) => vec![row.prompt],
        Fields::PromptCompletion(row) => vec![format!("{}{}", row.prompt, row.completion)],
        Fields::Preference(row) => {
            vec![format!("{}{}", row.prompt, row.chosen), format!("{}{}", row.prompt, row.rejected)]
        }
    }
}

/// Learns and writes the tokenizer; says how many tokens it has.
fn train(params: &Params, texts: &[String], to: &Path) -> Result<usize, StageError> {
    let mut special = vec![EOS.to_owned(), PAD.to_owned()];
    for token in &params.special_tokens {
        if token.is_empty() || special.contains(token) {
            return Err(StageError::refused(format!(
                "`special_tokens` has `{token}`, which is empty or there already"
            )));
        }
        special.push(token.clone());
    }
    let least = 256 + special.len();
    if params.vocab_size < least {
        return Err(StageError::refused(format!(
            "`vocab_size` must be {least} or more: 256 bytes and {} special tokens",
            special.len()
        )));
    }
    let added = special.iter().map(|token| AddedToken::from(token.clone(), true));
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(params.vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(added.collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let wrong = |error: tokenizers::Error| StageError::refused(format!("the tokenizer: {error}"));
    let bytes = ByteLevel::new(false, false, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(wrong)?;
    tokenizer.train(&mut trainer, texts.iter()).map_err(wrong)?;
    fs::create_dir_all(to).map_err(StageError::file(to))?;
    let json = tokenizer.to_string(true).map_err(wrong)?;
    write(&to.join(FILE), &json)?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": params.special_tokens,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "padding_side": "right",
    });
    write(&to.join(CONFIG_FILE), &format!("{config:#}\n"))?;
    Ok(tokenizer.get_vocab_size(true))
}

fn write(path: &Path, content: &str) -> Result<(), StageError> {
    fs::write(path, content).map_err(StageError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::tokenizer::Codec;

    fn trained(
        vocab_size: usize,
        special: &[&str],
    ) -> (tempfile::TempDir, Result<usize, StageError>) {
        let special_tokens = special.iter().map(ToString::to_string).collect();
        let texts: Vec<_> =
            (0..200).map(|i| format!("the cat number {i} sat on the mat")).collect();
        let folder = tempfile::tempdir().unwrap();
        let size = train(&Params { vocab_size, special_tokens }, &texts, folder.path());
        (folder, size)
    }

    #[test]
    fn any_text_comes_back_and_known_words_are_short() {
        let (folder, size) = trained(300, &[]);
        assert!((280..=300).contains(&size.unwrap()));
        let codec = Codec::open(folder.path()).unwrap();
        assert_eq!((codec.eos, codec.pad, codec.bos), (0, 1, None));
        for text in ["the cat", "größer\n\t 日本 \u{0}", "", " the", "a<|endoftext|>b"] {
            let ids = codec.encode(text).unwrap();
            assert_eq!(codec.decode_all(&ids).unwrap(), text);
        }
        assert!(codec.encode("the cat sat on the mat").unwrap().len() <= 8);
        assert_eq!(codec.encode("a<|endoftext|>").unwrap().last(), Some(&codec.eos));
    }

    #[test]
    fn the_same_texts_give_the_same_bytes() {
        let (one, _) = trained(320, &["<|user|>"]);
        let (two, _) = trained(320, &["<|user|>"]);
        let bytes = |folder: &tempfile::TempDir| fs::read(folder.path().join(FILE)).unwrap();
        assert_eq!(bytes(&one), bytes(&two));
    }

    #[test]
    fn a_vocabulary_too_small_for_the_bytes_is_refused() {
        assert!(trained(258, &["<|user|>"]).1.unwrap_err().to_string().contains("259 or more"));
        assert!(trained(300, &[EOS]).1.is_err());
    }
}
