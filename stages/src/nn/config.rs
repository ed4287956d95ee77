//! `config.json` of a decoder, as Hugging Face writes it.
//!
//! transformers 5 says `dtype` and `rope_parameters` where 4.x said `torch_dtype`, `rope_theta` and
//! `rope_scaling`; both are read, and both are written, so that either library loads what we save.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rope::Rope;
use crate::error::StageError;

/// Guards against a `config.json` that asks for absurd amounts of memory.
const LARGEST_SIZE: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

/// What stands on top of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    LanguageModel,
    /// One number per row: `score.weight` without a bias.
    Score,
}

/// The shape of a decoder and the ids it needs to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) family: Family,
    pub(crate) head: Head,
    pub(crate) vocab_size: i64,
    pub(crate) hidden_size: i64,
    pub(crate) intermediate_size: i64,
    pub(crate) layers: i64,
    pub(crate) heads: i64,
    pub(crate) kv_heads: i64,
    pub(crate) head_dim: i64,
    pub(crate) context_length: i64,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope: Rope,
    pub(crate) tie_embeddings: bool,
    /// Llama's switch for biases on q, k, v and o; Qwen2 always has them on q, k and v.
    pub(crate) attention_bias: bool,
    /// Llama's switch for biases in the feed-forward layers.
    pub(crate) mlp_bias: bool,
    pub(crate) initializer_range: f64,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Vec<u32>,
    pub(crate) pad: Option<u32>,
}

impl Config {
    /// Reads a `config.json`, refusing whatever the decoder does not do.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, StageError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| StageError::refused(format!("`config.json` is not JSON: {error}")))?;
        let config = Self::from_value(&value)
            .map_err(|why| StageError::refused(format!("`config.json`: {why}")))?;
        Ok(config)
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        let family = match value["model_type"].as_str() {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            other => {
                let other = other.unwrap_or("missing");
                return Err(format!(
                    "`model_type` is `{other}`; llama, qwen2 and qwen3 can be read"
                ));
            }
        };
        let head = match value["architectures"][0].as_str() {
            Some(name) if name.ends_with("ForSequenceClassification") => Head::Score,
            _ => Head::LanguageModel,
        };
        refuse_the_unsupported(value)?;
        let hidden_size = size(value, "hidden_size", None)?;
        let heads = size(value, "num_attention_heads", None)?;
        let config = Self {
            family,
            head,
            vocab_size: size(value, "vocab_size", None)?,
            hidden_size,
            intermediate_size: size(value, "intermediate_size", None)?,
            layers: size(value, "num_hidden_layers", None)?,
            heads,
            kv_heads: size(value, "num_key_value_heads", Some(heads))?,
            head_dim: size(value, "head_dim", Some(hidden_size / heads))?,
            context_length: size(value, "max_position_embeddings", Some(2048))?,
            rms_norm_eps: value["rms_norm_eps"].as_f64().unwrap_or(1e-6),
            rope: Rope::from_config(value)?,
            tie_embeddings: value["tie_word_embeddings"].as_bool().unwrap_or(false),
            attention_bias: value["attention_bias"].as_bool().unwrap_or(false),
            mlp_bias: family == Family::Llama && value["mlp_bias"].as_bool().unwrap_or(false),
            initializer_range: value["initializer_range"].as_f64().unwrap_or(0.02),
            bos: ids(&value["bos_token_id"])?.first().copied(),
            eos: ids(&value["eos_token_id"])?,
            pad: ids(&value["pad_token_id"])?.first().copied(),
        };
        config.check()?;
        Ok(config)
    }

    /// Sizes that fit each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.heads % self.kv_heads != 0 {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(format!("{heads} attention heads cannot share {kv_heads} key-value heads"));
        }
        if self.head_dim % 2 != 0 {
            return Err(format!("rotary positions need an even head size, not {}", self.head_dim));
        }
        if self.layers > 1024 {
            return Err(format!("{} layers are more than 1024", self.layers));
        }
        let vocabulary = u32::try_from(self.vocab_size).unwrap_or(u32::MAX);
        match self.eos.iter().chain(&self.pad).chain(&self.bos).find(|id| **id >= vocabulary) {
            Some(id) => Err(format!("token {id} lies outside the vocabulary of {vocabulary}")),
            None => Ok(()),
        }
    }

    /// Refuses a model with the wrong head.
    pub(crate) fn expect(&self, head: Head) -> Result<(), &'static str> {
        match (self.head == head, head) {
            (true, _) => Ok(()),
            (false, Head::LanguageModel) => Err("this is a classifier; a language model is needed"),
            (false, Head::Score) => Err("this is a language model; a reward model is needed"),
        }
    }

    /// Every parameter's name and shape, in the order of names.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<i64>> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut shapes = BTreeMap::from([
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ]);
        if self.head == Head::Score {
            shapes.insert("score.weight".to_owned(), vec![1, hidden]);
        } else if !self.tie_embeddings {
            shapes.insert("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]);
        }
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[i64]| {
                shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec());
            };
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            for (name, rows, columns) in [
                ("q_proj", queries, hidden),
                ("k_proj", keys, hidden),
                ("v_proj", keys, hidden),
                ("o_proj", hidden, queries),
            ] {
                add(&format!("self_attn.{name}.weight"), &[rows, columns]);
                if self.has_bias(name) {
                    add(&format!("self_attn.{name}.bias"), &[rows]);
                }
            }
            if self.family == Family::Qwen3 {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            for (name, rows, columns) in [
                ("gate_proj", inner, hidden),
                ("up_proj", inner, hidden),
                ("down_proj", hidden, inner),
            ] {
                add(&format!("mlp.{name}.weight"), &[rows, columns]);
                if self.mlp_bias {
                    add(&format!("mlp.{name}.bias"), &[rows]);
                }
            }
        }
        shapes
    }

    fn has_bias(&self, projection: &str) -> bool {
        match self.family {
            Family::Llama | Family::Qwen3 => self.attention_bias,
            Family::Qwen2 => projection != "o_proj",
        }
    }

    /// What goes into `config.json`; weights are always saved in float32.
    pub(crate) fn to_json(&self) -> Value {
        let (model_type, class) = match self.family {
            Family::Llama => ("llama", "Llama"),
            Family::Qwen2 => ("qwen2", "Qwen2"),
            Family::Qwen3 => ("qwen3", "Qwen3"),
        };
        let task = match self.head {
            Head::LanguageModel => "ForCausalLM",
            Head::Score => "ForSequenceClassification",
        };
        let eos = one_or_several(&self.eos);
        let (rope_parameters, rope_scaling) = self.rope.to_json();
        let mut value = json!({
            "architectures": [format!("{class}{task}")],
            "attention_bias": self.attention_bias,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos,
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.context_length,
            "mlp_bias": self.mlp_bias,
            "model_type": model_type,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": self.pad,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": rope_parameters,
            "rope_scaling": rope_scaling,
            "rope_theta": self.rope.theta,
            "tie_word_embeddings": self.tie_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "vocab_size": self.vocab_size,
        });
        if self.head == Head::Score {
            value["id2label"] = json!({ "0": "LABEL_0" });
            value["label2id"] = json!({ "LABEL_0": 0 });
        }
        value
    }
}

fn refuse_the_unsupported(value: &Value) -> Result<(), String> {
    let activation = value["hidden_act"].as_str().unwrap_or("silu");
    if activation != "silu" {
        return Err(format!("`hidden_act` is `{activation}`; only silu is known"));
    }
    if value["use_sliding_window"].as_bool() == Some(true) {
        return Err("sliding windows are not supported".to_owned());
    }
    for key in ["attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"] {
        if value[key].as_f64().is_some_and(|share| share > 0.0) {
            return Err(format!(
                "it asks for `{key}` {}, and there is no dropout here: set it to 0",
                value[key]
            ));
        }
    }
    let labels = value["id2label"].as_object().map_or(1, serde_json::Map::len);
    if value["num_labels"].as_u64().unwrap_or(1) > 1 || labels > 1 && is_classifier(value) {
        return Err("a classifier must have exactly one label".to_owned());
    }
    Ok(())
}

fn is_classifier(value: &Value) -> bool {
    let name = value["architectures"][0].as_str();
    name.is_some_and(|name| name.ends_with("ForSequenceClassification"))
}

fn size(value: &Value, key: &str, default: Option<i64>) -> Result<i64, String> {
    match (&value[key], default) {
        (Value::Null, Some(default)) => Ok(default),
        (found, _) => match found.as_u64() {
            Some(size @ 1..=LARGEST_SIZE) => Ok(size.cast_signed()),
            _ => Err(format!("`{key}` is {found}, which is no size between 1 and {LARGEST_SIZE}")),
        },
    }
}

/// The other way round of [`ids`].
pub(crate) fn one_or_several(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

/// A token id, a list of them, or nothing; transformers also writes −1 for nothing.
pub(crate) fn ids(value: &Value) -> Result<Vec<u32>, String> {
    let several = match value {
        Value::Array(several) => several.as_slice(),
        one => std::slice::from_ref(one),
    };
    several
        .iter()
        .filter(|id| !id.is_null() && id.as_i64() != Some(-1))
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{value} is no token id"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two layers, four query heads on two key heads.
    pub(crate) fn tiny() -> Config {
        Config {
            family: Family::Llama,
            head: Head::LanguageModel,
            vocab_size: 16,
            hidden_size: 8,
            intermediate_size: 12,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
            context_length: 32,
            rms_norm_eps: 1e-5,
            rope: Rope::plain(10_000.0),
            tie_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            initializer_range: 0.2,
            bos: None,
            eos: vec![1],
            pad: Some(0),
        }
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut value = tiny().to_json();
        change(&mut value);
        Config::parse(value.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = tiny().to_json().to_string();
        assert_eq!(Config::parse(text.as_bytes()).unwrap(), tiny());
    }

    #[test]
    fn the_spelling_of_transformers_4_says_the_same() {
        let mut old = tiny().to_json();
        let keys = old.as_object_mut().unwrap();
        keys.remove("rope_parameters");
        keys.remove("head_dim");
        keys.insert("rope_scaling".to_owned(), Value::Null);
        assert_eq!(Config::parse(old.to_string().as_bytes()).unwrap(), tiny());
    }

    #[test]
    fn what_the_decoder_does_not_do_is_refused_by_name() {
        assert!(refusal(|v| v["model_type"] = json!("mamba")).contains("`mamba`"));
        assert!(refusal(|v| v["rope_parameters"]["rope_type"] = json!("yarn")).contains("`yarn`"));
        assert!(refusal(|v| v["num_key_value_heads"] = json!(3)).contains("cannot share 3"));
        assert!(refusal(|v| v["hidden_size"] = json!(1_u64 << 40)).contains("`hidden_size`"));
        assert!(refusal(|v| v["eos_token_id"] = json!(99)).contains("token 99"));
    }
}
