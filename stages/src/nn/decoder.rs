//! The decoder of Llama, Qwen2 and Qwen3: norms by the root mean square, rotary
//! positions, grouped-query attention, gated feed-forward layers.
//!
//! Parameters are a map by their Hugging Face names; a tied output head is the embedding itself, so it
//! is saved, counted and stepped once.

use std::collections::BTreeMap;

use tch::{Device, IndexOp, Kind, Tensor};

use super::{
    batch::Batch,
    config::{Config, Head},
    stream::Stream,
};
use crate::error::StageError;

/// Finite, so that a row whose keys are all hidden gives numbers (which nobody reads) and not NaN.
const HIDDEN: f64 = -1e30;

pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) parameters: BTreeMap<String, Tensor>,
}

impl Model {
    /// Fresh weights: normal with `initializer_range`, norms at one, biases at zero, as transformers does.
    pub(crate) fn fresh(config: Config, mut weights: Stream, device: Device) -> Self {
        let mut draw = |(name, shape): (String, Vec<i64>)| {
            let value = if name.ends_with("norm.weight") {
                Tensor::ones(&shape, (Kind::Float, Device::Cpu))
            } else if name.ends_with("bias") {
                Tensor::zeros(&shape, (Kind::Float, Device::Cpu))
            } else {
                weights.named(&name).normal(&shape, config.initializer_range)
            };
            (name, value.to_device(device))
        };
        let parameters = config.shapes().into_iter().map(&mut draw).collect();
        Self { config, parameters }
    }

    /// The same decoder with a fresh scalar head in place of the language model's.
    pub(crate) fn with_score_head(&self, weights: Stream) -> Self {
        let config = Config { head: Head::Score, ..self.config.clone() };
        let copy = |(name, value): (&String, &Tensor)| (name.clone(), value.detach().copy());
        let mut parameters: BTreeMap<_, _> = self.parameters.iter().map(copy).collect();
        parameters.remove("lm_head.weight");
        let head = weights.normal(&[1, config.hidden_size], config.initializer_range);
        parameters.insert("score.weight".to_owned(), head.to_device(self.device()));
        Self { config, parameters }
    }

    /// Makes every parameter a leaf that collects gradients.
    pub(crate) fn trainable(self) -> Self {
        let parameters = self.parameters.into_iter();
        let parameters = parameters.map(|(name, value)| (name, value.set_requires_grad(true)));
        Self { config: self.config, parameters: parameters.collect() }
    }

    /// Refuses a model with the wrong head.
    pub(crate) fn expecting(self, head: Head) -> Result<Self, StageError> {
        self.config.expect(head).map_err(StageError::refused)?;
        Ok(self)
    }

    /// The most tokens of a row.
    pub(crate) fn context(&self) -> usize {
        usize::try_from(self.config.context_length).unwrap_or(usize::MAX)
    }

    /// Refuses weights that are no numbers, by the tensor's name.
    pub(crate) fn check_finite(&self) -> Result<(), StageError> {
        for (name, value) in &self.parameters {
            // A sum is finite only if all it adds up are, or else so large that nothing could be computed.
            if !tch::no_grad(|| value.f_sum(Kind::Double))?.f_double_value(&[])?.is_finite() {
                return Err(StageError::refused(format!(
                    "the weights `{name}` hold NaN or infinity: the training that made them went astray, or \
                     the file is damaged"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn device(&self) -> Device {
        self.parameters.values().next().map_or(Device::Cpu, Tensor::device)
    }

    /// The id that fills up rows; it is never attended to, so any id would do.
    pub(crate) fn pad(&self) -> u32 {
        self.config.pad.or(self.config.eos.first().copied()).unwrap_or(0)
    }

    fn parameter(&self, name: &str) -> &Tensor {
        &self.parameters[name]
    }

    /// The last hidden states, after the final norm: [rows, width, hidden].
    pub(crate) fn hidden(&self, batch: &Batch) -> Tensor {
        let rotary = self.rotary(&batch.positions);
        let mask = attention_mask(&batch.segments, &batch.segments);
        self.layers(&batch.ids, &rotary, &mask, None)
    }

    /// The same for the next tokens of rows whose past is in `cache`, which takes these in.
    pub(crate) fn hidden_after(&self, batch: &Batch, cache: &mut Cache) -> Tensor {
        let width = batch.width();
        let rotary = self.rotary(&batch.positions);
        cache.segments.narrow(1, cache.length, width).copy_(&batch.segments);
        let keys = cache.segments.narrow(1, 0, cache.length + width);
        let mask = attention_mask(&batch.segments, &keys);
        let hidden = self.layers(&batch.ids, &rotary, &mask, Some(cache));
        cache.length += width;
        hidden
    }

    /// Next-token logits of hidden states: [.., vocabulary].
    pub(crate) fn logits(&self, hidden: &Tensor) -> Tensor {
        let head = self.parameters.get("lm_head.weight");
        hidden.linear::<Tensor>(head.unwrap_or(self.parameter("model.embed_tokens.weight")), None)
    }

    /// The score head's number at every hidden state: one dimension less.
    pub(crate) fn scored(&self, hidden: &Tensor) -> Tensor {
        hidden.linear::<Tensor>(self.parameter("score.weight"), None).squeeze_dim(-1)
    }

    /// The score of each row at its last token that is not padding: `[rows]`. As in transformers, the
    /// padding token never counts, so where it ends texts too, the token before the end does.
    pub(crate) fn scores(&self, batch: &Batch) -> Tensor {
        let scores = self.scored(&self.hidden(batch));
        let places = Tensor::arange(batch.width(), (Kind::Int64, self.device()));
        let mut real = batch.segments.gt(0);
        if let Some(pad) = self.config.pad {
            real = real.logical_and(&batch.ids.not_equal(i64::from(pad)));
        }
        let last = (real.to_kind(Kind::Int64) * places).argmax(1, true);
        scores.gather(1, &last, false).squeeze_dim(1)
    }

    fn layers(
        &self,
        ids: &Tensor,
        rotary: &(Tensor, Tensor),
        mask: &Tensor,
        mut cache: Option<&mut Cache>,
    ) -> Tensor {
        let embedding = self.parameter("model.embed_tokens.weight");
        let mut x = Tensor::embedding(embedding, ids, -1, false, false);
        for layer in 0..self.config.layers {
            let prefix = format!("model.layers.{layer}");
            let normed = self.rms_norm(&x, &format!("{prefix}.input_layernorm.weight"));
            let kept = cache.as_deref_mut().map(|cache| cache.layer(layer));
            // Not `+=`, which is in place and would spoil what the gradient needs.
            let mixed =
                x + self.attention(&normed, &format!("{prefix}.self_attn"), rotary, mask, kept);
            let normed =
                self.rms_norm(&mixed, &format!("{prefix}.post_attention_layernorm.weight"));
            x = mixed + self.swiglu(&normed, &format!("{prefix}.mlp"));
        }
        self.rms_norm(&x, "model.norm.weight")
    }

    /// `x / √(mean x² + ε) · w` (Zhang & Sennrich 2019, eq. 4).
    fn rms_norm(&self, x: &Tensor, weight: &str) -> Tensor {
        let square = x.square().mean_dim(-1, true, Kind::Float);
        x * (square + self.config.rms_norm_eps).rsqrt() * self.parameter(weight)
    }

    /// `W_down (silu(W_gate x) ⊙ W_up x)` (Shazeer 2020, eq. 6).
    fn swiglu(&self, x: &Tensor, prefix: &str) -> Tensor {
        let gate = self.linear(x, &format!("{prefix}.gate_proj")).silu();
        self.linear(
            &(gate * self.linear(x, &format!("{prefix}.up_proj"))),
            &format!("{prefix}.down_proj"),
        )
    }

    fn linear(&self, x: &Tensor, prefix: &str) -> Tensor {
        let bias = self.parameters.get(&format!("{prefix}.bias"));
        x.linear(self.parameter(&format!("{prefix}.weight")), bias)
    }

    /// softmax(q kᵀ / √d + mask) v, where the query heads of a group share keys and values
    /// (Vaswani et al. 2017, eq. 1; Ainslie et al. 2023, section 2.2).
    fn attention(
        &self,
        x: &Tensor,
        prefix: &str,
        rotary: &(Tensor, Tensor),
        mask: &Tensor,
        kept: Option<Kept>,
    ) -> Tensor {
        let (rows, width, _) = x.size3().expect("hidden states have three dimensions");
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        let project = |name: &str, heads: i64| {
            let y = self
                .linear(x, &format!("{prefix}.{name}_proj"))
                .view([rows, width, heads, head_dim]);
            let norm = format!("{prefix}.{name}_norm.weight");
            let y = if self.parameters.contains_key(&norm) { self.rms_norm(&y, &norm) } else { y };
            y.transpose(1, 2)
        };
        let q = rotate(&project("q", heads), rotary);
        let (k, v) = (rotate(&project("k", kv_heads), rotary), project("v", kv_heads));
        let (k, v) = match kept {
            Some(kept) => kept.extend(&k, &v),
            None => (k, v),
        };
        // The queries of a group are laid end to end, so keys and values need no copies.
        let length = k.size()[2];
        let q = q.reshape([rows, kv_heads, -1, head_dim]) * (head_dim as f64).sqrt().recip();
        let scores = q.matmul(&k.transpose(-2, -1)).view([rows, kv_heads, -1, width, length]);
        let weights = (scores + mask).softmax(-1, Kind::Float).view([rows, kv_heads, -1, length]);
        let mixed = weights.matmul(&v).reshape([rows, heads, width, head_dim]);
        self.linear(&mixed.transpose(1, 2).reshape([rows, width, -1]), &format!("{prefix}.o_proj"))
    }

    /// cos and sin of position · frequency, each `[rows, 1, width, head_dim]`.
    fn rotary(&self, positions: &Tensor) -> (Tensor, Tensor) {
        let frequencies = self.config.rope.frequencies(self.config.head_dim);
        let frequencies = Tensor::from_slice(&frequencies).to_kind(Kind::Float);
        let angle =
            positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies.to_device(self.device());
        let angle = Tensor::cat(&[&angle, &angle], -1).unsqueeze(1);
        (angle.cos(), angle.sin())
    }
}

/// x · cos + (−x₂, x₁) · sin over the two halves of each head.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Tensor {
    let halves = x.chunk(2, -1);
    x * cos + Tensor::cat(&[-&halves[1], halves[0].shallow_clone()], -1) * sin
}

/// 0 where a query may look and [`HIDDEN`] elsewhere: [rows, 1, 1, queries, keys]. The queries are the
/// last of the keys.
fn attention_mask(queries: &Tensor, keys: &Tensor) -> Tensor {
    let (width, length) = (queries.size()[1], keys.size()[1]);
    let same =
        queries.unsqueeze(2).eq_tensor(&keys.unsqueeze(1)).logical_and(&keys.gt(0).unsqueeze(1));
    let causal = Tensor::ones([width, length], (Kind::Bool, keys.device())).tril(length - width);
    let hidden = same.logical_and(&causal).logical_not();
    let zeros = Tensor::zeros(hidden.size(), (Kind::Float, keys.device()));
    zeros.masked_fill(&hidden, HIDDEN).unsqueeze(1).unsqueeze(1)
}

/// Keys and values of the tokens so far, in buffers as long as the rows can get.
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    segments: Tensor,
    length: i64,
}

impl Cache {
    pub(crate) fn new(model: &Model, rows: i64, longest: i64) -> Self {
        let Config { kv_heads, head_dim, layers, .. } = model.config;
        let device = model.device();
        let buffer = || Tensor::zeros([rows, kv_heads, longest, head_dim], (Kind::Float, device));
        Self {
            layers: (0..layers).map(|_| (buffer(), buffer())).collect(),
            segments: Tensor::zeros([rows, longest], (Kind::Int64, device)),
            length: 0,
        }
    }

    /// Keeps only the rows named.
    pub(crate) fn select(&mut self, rows: &Tensor) {
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, rows);
            *values = values.index_select(0, rows);
        }
        self.segments = self.segments.index_select(0, rows);
    }

    fn layer(&mut self, layer: i64) -> Kept {
        let (keys, values) =
            &self.layers[usize::try_from(layer).expect("layers are counted from 0")];
        Kept { keys: keys.shallow_clone(), values: values.shallow_clone(), length: self.length }
    }
}

/// One layer of a [`Cache`].
struct Kept {
    keys: Tensor,
    values: Tensor,
    length: i64,
}

impl Kept {
    fn extend(&self, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let width = keys.size()[2];
        let put = |buffer: &Tensor, new: &Tensor| {
            buffer.narrow(2, self.length, width).copy_(new);
            buffer.i((.., .., ..self.length + width))
        };
        (put(&self.keys, keys), put(&self.values, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::config::tests::tiny;

    fn model() -> Model {
        Model::fresh(tiny(), Stream::of(7), Device::Cpu)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn packing_and_padding_change_nothing() {
        let model = model();
        let (a, b) = ([2_u32, 3, 4], [5_u32, 6]);
        let alone = model.hidden(&Batch::right(&[&a[..]], 0, Device::Cpu)).i(0);
        let padded = model.hidden(&Batch::left(&[&b[..], &a[..]], 0, Device::Cpu)).i(1);
        let packed = model.hidden(&Batch::packed(&[&[&b[..], &a[..]]], 0, Device::Cpu));
        assert!(difference(&alone, &padded) < 1e-6);
        assert!(difference(&alone, &packed.i((0, 2..))) < 1e-6);
    }

    #[test]
    fn a_cache_gives_what_the_whole_row_gives() {
        let model = model();
        let whole = Batch::right(&[&[2_u32, 3, 4, 5][..]], 0, Device::Cpu);
        let part = |from: i64, to: i64| Batch {
            ids: whole.ids.i((.., from..to)),
            segments: whole.segments.i((.., from..to)),
            positions: whole.positions.i((.., from..to)),
        };
        let mut cache = Cache::new(&model, 1, 4);
        let first = model.hidden_after(&part(0, 3), &mut cache);
        let last = model.hidden_after(&part(3, 4), &mut cache);
        assert!(difference(&model.hidden(&whole), &Tensor::cat(&[first, last], 1)) < 1e-6);
    }

    #[test]
    fn a_row_is_scored_at_its_last_token() {
        let model = model().with_score_head(Stream::of(1));
        let rows = [&[2_u32, 3][..], &[4, 5, 6]];
        let right = model.scores(&Batch::right(&rows, 0, Device::Cpu));
        let left = model.scores(&Batch::left(&rows, 0, Device::Cpu));
        assert!(difference(&right, &left) < 1e-6);
        // 0 is the padding token, even inside a row.
        let ended = model.scores(&Batch::right(&[&[2_u32, 3, 0][..], &[4, 5, 6]], 0, Device::Cpu));
        assert!(difference(&right, &ended) < 1e-6);
    }
}
