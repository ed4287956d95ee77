//! The decoder of Llama, Qwen2 and Qwen3: norms by the root mean square, rotary
//! positions, grouped-query attention, gated feed-forward layers.
//!
//! Parameters are a map by their Hugging Face names; a tied output head is the embedding itself, so it
//! is saved, counted and stepped once.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{
    attention::{Sight, attention},
    batch::{Batch, Lie, as_i64},
    branches::Branches,
    config::{Config, Head},
    stream::Stream,
};
use crate::error::StageError;

/// Where a language model's own output head lies.
const LANGUAGE_HEAD: &str = "lm_head.weight";

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

    /// The same decoder with a fresh scalar head in place of the language model's, or beside it while it still `speaks`.
    pub(crate) fn with_score_head(&self, weights: Stream, speaks: bool) -> Self {
        let config = Config { head: Head::Score, ..self.config.clone() };
        let copy = |(name, value): (&String, &Tensor)| (name.clone(), value.detach().copy());
        let mut parameters: BTreeMap<_, _> = self.parameters.iter().map(copy).collect();
        if !speaks {
            parameters.remove(LANGUAGE_HEAD);
        }
        let head = weights.normal(&[1, config.hidden_size], config.initializer_range);
        parameters.insert("score.weight".to_owned(), head.to_device(self.device()));
        Self { config, parameters }
    }

    /// The same without the scalar head, where it stands beside a language model's.
    pub(crate) fn without_score_head(mut self) -> Self {
        self.parameters.remove("score.weight");
        self.config.head = Head::LanguageModel;
        self
    }

    /// The same without the head of a language model, where one stands beside another.
    pub(crate) fn without_language_head(mut self) -> Self {
        self.parameters.remove(LANGUAGE_HEAD);
        self
    }

    /// Makes every parameter a leaf that collects gradients.
    pub(crate) fn trainable(self) -> Self {
        let parameters = self.parameters.into_iter();
        let parameters = parameters.map(|(name, value)| (name, value.set_requires_grad(true)));
        Self { config: self.config, parameters: parameters.collect() }
    }

    /// A copy that has nothing to do with how it came about.
    #[cfg(test)]
    pub(crate) fn detached(&self) -> Self {
        let copy = |(name, value): (&String, &Tensor)| (name.clone(), value.detach().copy());
        let parameters = self.parameters.iter().map(copy).collect();
        Self { config: self.config.clone(), parameters }
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
        let sight = match batch.lie {
            Lie::Full | Lie::Before => Sight::back(batch.width(), self.device()),
            Lie::Anyhow => Sight::within(&batch.segments),
        };
        let rows = batch.rows();
        let hidden = self.layers(&self.weights(), &batch.ids, &batch.positions, |_, q, k, v| {
            let [q, k, v] = [q, k, v].map(|it| by_rows(it, rows));
            attention(&q, &k, &v, &sight)
        });
        hidden.view([rows, batch.width(), -1])
    }

    /// The hidden states of all stems, then of all branches, one behind the other: [tokens, hidden].
    fn hidden_of_branches(&self, branches: &Branches) -> Tensor {
        let device = self.device();
        let (stems, tails) =
            (branches.stems(self.pad(), device), branches.tails(self.pad(), device));
        let [ids, positions] = [(&stems.ids, &tails.ids), (&stems.positions, &tails.positions)]
            .map(|(stems, tails)| Tensor::cat(&[stems.flatten(0, 1), tails.flatten(0, 1)], 0));
        let sizes = [stems.rows() * stems.width(), tails.rows() * tails.width()];
        let stem_of = branches.stem_of(device);
        let back = Sight::back(stems.width(), device);
        let beyond = Sight::Marked(branches.mask(device));
        self.layers(&self.weights(), &ids, &positions, |_, q, k, v| {
            let [q, k, v] = [q, k, v].map(|it| {
                let parts = it.split_with_sizes(sizes, 0);
                [by_rows(&parts[0], stems.rows()), by_rows(&parts[1], tails.rows())]
            });
            let [all_k, all_v] = [&k, &v]
                .map(|[stem, tail]| Tensor::cat(&[&stem.index_select(0, &stem_of), tail], 2));
            let stems = attention(&q[0], &k[0], &v[0], &back);
            Tensor::cat(&[stems, attention(&q[1], &all_k, &all_v, &beyond)], 0)
        })
    }

    /// The output head's weights: [vocabulary, hidden].
    pub(super) fn head(&self) -> &Tensor {
        let head = self.parameters.get(LANGUAGE_HEAD);
        head.unwrap_or(self.parameter("model.embed_tokens.weight"))
    }

    /// Next-token logits of hidden states: [.., vocabulary].
    pub(crate) fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear::<Tensor>(self.head(), None)
    }

    /// The score head's number at every hidden state: one dimension less.
    pub(crate) fn scored(&self, hidden: &Tensor) -> Tensor {
        hidden.linear::<Tensor>(self.parameter("score.weight"), None).squeeze_dim(-1)
    }

    /// The score of each row: `[rows]`.
    pub(crate) fn scores(&self, rows: &[&[u32]]) -> Tensor {
        let ends = rows.iter().enumerate().map(|(row, text)| (row, self.last(text)));
        self.scored(&self.hidden_at(rows, ends))
    }

    /// Where a row's score stands: at its last token. As in transformers, the padding token never counts, so where it ends
    /// texts too, the token before the end does.
    pub(crate) fn last(&self, row: &[u32]) -> usize {
        row.iter().rposition(|id| Some(*id) != self.config.pad).unwrap_or(0)
    }

    /// Hidden states at places, each in one of the rows: [places, hidden]. What rows begin with in common is read once
    /// where that is less.
    pub(crate) fn hidden_at(
        &self,
        rows: &[&[u32]],
        places: impl Iterator<Item = (usize, usize)>,
    ) -> Tensor {
        let device = self.device();
        if let Some(branches) = Branches::of(rows) {
            let places = branches.places(places, device);
            return self.hidden_of_branches(&branches).index_select(0, &places);
        }
        let batch = Batch::right(rows, self.pad(), device);
        let width = usize::try_from(batch.width()).unwrap_or(0);
        let places: Vec<i64> = places.map(|(row, at)| as_i64(row * width + at)).collect();
        let hidden = self.hidden(&batch).flatten(0, 1);
        hidden.index_select(0, &Tensor::from_slice(&places).to_device(device))
    }

    /// The hidden states of tokens, one behind the other, whatever their rows: [tokens, hidden]. In a layer `look` gives what
    /// queries take from keys and values, all [tokens, heads, d].
    pub(super) fn layers(
        &self,
        weights: &Weights,
        ids: &Tensor,
        positions: &Tensor,
        mut look: impl FnMut(usize, &Tensor, &Tensor, &Tensor) -> Tensor,
    ) -> Tensor {
        let turns = self.turns(&positions.flatten(0, -1));
        let ids = ids.flatten(0, -1);
        let embedding = self.parameter("model.embed_tokens.weight");
        let mut x = Tensor::embedding(embedding, &ids, -1, false, false);
        for (number, layer) in weights.0.iter().enumerate() {
            let (q, k, v) = self.projected(&self.norm(&x, &layer.before), layer, &turns);
            let mixed = look(number, &q, &k, &v);
            let mixed = layer.out.added(&x, &mixed);
            let inner = swiglu(&self.norm(&mixed, &layer.between), &layer.gate_up);
            x = layer.down.added(&mixed, &inner);
        }
        self.norm(&x, self.parameter("model.norm.weight"))
    }

    /// Queries, keys and values, the former two turned by their positions.
    fn projected(&self, x: &Tensor, layer: &Layer, turns: &Turns) -> (Tensor, Tensor, Tensor) {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        let all = layer.qkv.of(x).view([-1, heads + 2 * kv_heads, head_dim]);
        let (turned, v) = match &layer.norms {
            None => {
                let parts = all.split_with_sizes([heads + kv_heads, kv_heads], 1);
                (turns.of(&parts[0]), parts[1].shallow_clone())
            }
            Some((of_q, of_k)) => {
                let parts = all.split_with_sizes([heads, kv_heads, kv_heads], 1);
                let normed = [self.norm(&parts[0], of_q), self.norm(&parts[1], of_k)];
                (turns.of(&Tensor::cat(&normed, 1)), parts[2].shallow_clone())
            }
        };
        let parts = turned.split_with_sizes([heads, kv_heads], 1);
        (parts[0].shallow_clone(), parts[1].shallow_clone(), v)
    }

    /// `x / √(mean x² + ε) · w` (Zhang & Sennrich 2019, eq. 4).
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        x.rms_norm(weight.size(), Some(weight), self.config.rms_norm_eps)
    }

    /// How much tokens at these places are turned.
    fn turns(&self, positions: &Tensor) -> Turns {
        let frequencies = self.config.rope.frequencies(self.config.head_dim);
        let frequencies = Tensor::from_slice(&frequencies).to_kind(Kind::Float);
        let angle =
            positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies.to_device(self.device());
        let (cos, sin) = (angle.cos(), angle.sin());
        Turns {
            cos: Tensor::cat(&[&cos, &cos], -1).unsqueeze(1),
            sin: Tensor::cat(&[&-&sin, &sin], -1).unsqueeze(1),
        }
    }

    /// The weights as the layers take them. What reads the same is one matrix, so one product does for all of it.
    pub(super) fn weights(&self) -> Weights {
        let layer = |layer: i64| {
            let name = |of: &str| format!("model.layers.{layer}.{of}");
            let parameter = |of: &str| self.parameters.get(&name(of)).map(Tensor::shallow_clone);
            let known = |of: &str| self.parameter(&name(of)).shallow_clone();
            let linear = |of: &[&str]| {
                let all = |part: &str| -> Vec<Tensor> {
                    of.iter().filter_map(|it| parameter(&format!("{it}.{part}"))).collect()
                };
                let (weights, biases) = (all("weight"), all("bias"));
                Linear {
                    weight: joined(weights).expect("a layer has all its weights"),
                    bias: joined(biases),
                }
            };
            Layer {
                before: known("input_layernorm.weight"),
                between: known("post_attention_layernorm.weight"),
                norms: parameter("self_attn.q_norm.weight")
                    .zip(parameter("self_attn.k_norm.weight")),
                qkv: linear(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                out: linear(&["self_attn.o_proj"]),
                gate_up: linear(&["mlp.gate_proj", "mlp.up_proj"]),
                down: linear(&["mlp.down_proj"]),
            }
        };
        Weights((0..self.config.layers).map(layer).collect())
    }
}

/// Of all layers, in order.
pub(super) struct Weights(Vec<Layer>);

struct Layer {
    /// The norm's before attention.
    before: Tensor,
    /// That between attention and the feed-forward layers.
    between: Tensor,
    /// Those of queries and keys, where there are such.
    norms: Option<(Tensor, Tensor)>,
    qkv: Linear,
    out: Linear,
    gate_up: Linear,
    down: Linear,
}

struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn of(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    /// The outcome on top of `sum`.
    fn added(&self, sum: &Tensor, x: &Tensor) -> Tensor {
        match self.bias {
            None => sum.addmm(x, &self.weight.tr()),
            Some(_) => sum + self.of(x),
        }
    }
}

/// One matrix above the other.
fn joined(parts: Vec<Tensor>) -> Option<Tensor> {
    if parts.len() > 1 { Some(Tensor::cat(&parts, 0)) } else { parts.into_iter().next() }
}

/// `silu(W_gate x) ⊙ W_up x` (Shazeer 2020, eq. 6).
fn swiglu(x: &Tensor, gate_up: &Linear) -> Tensor {
    let parts = gate_up.of(x).chunk(2, -1);
    parts[0].silu() * &parts[1]
}

/// Tokens one behind the other, by rows: [rows, heads, width, d].
pub(super) fn by_rows(x: &Tensor, rows: i64) -> Tensor {
    let (_, heads, size) = x.size3().expect("heads have three dimensions");
    x.view([rows, -1, heads, size]).transpose(1, 2)
}

/// Rotations: cos and (−sin, sin) of position · frequency, each [tokens, 1, d].
struct Turns {
    cos: Tensor,
    sin: Tensor,
}

impl Turns {
    /// x · cos + (−x₂, x₁) · sin over the two halves of each head.
    fn of(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let swapped = Tensor::cat(&[&halves[1], &halves[0]], -1);
        x * &self.cos + swapped * &self.sin
    }
}

#[cfg(test)]
mod tests {
    use tch::IndexOp;

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
    fn a_row_is_scored_at_its_last_token() {
        let model = model().with_score_head(Stream::of(1), false);
        let alone = |row: &[u32]| model.scores(&[row]).double_value(&[0]);
        let both = model.scores(&[&[2, 3], &[4, 5, 6]]);
        assert!((both.double_value(&[0]) - alone(&[2, 3])).abs() < 1e-6);
        assert!((both.double_value(&[1]) - alone(&[4, 5, 6])).abs() < 1e-6);
        // 0 is the padding token, even inside a row.
        let ended = model.scores(&[&[2, 3, 0], &[4, 5, 6]]);
        assert!(difference(&both, &ended) < 1e-6);
    }

    #[test]
    fn what_rows_begin_with_in_common_is_read_once_to_the_same_end() {
        let (one, other): (Vec<u32>, Vec<u32>) = ((2..12).collect(), (3..11).rev().collect());
        let rows: Vec<Vec<u32>> = [(&one, 4), (&other, 2), (&one, 5), (&other, 6), (&one, 7)]
            .map(|(stem, more)| stem.iter().copied().chain(more..=more + more % 4).collect())
            .into();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        assert!(Branches::of(&rows).is_some());
        let (shared, plain) = (model().trainable(), model().trainable());
        let all = rows.iter().enumerate();
        let places = all.flat_map(|(row, ids)| (0..ids.len()).map(move |at| (row, at)));
        let hidden = shared.hidden_at(&rows, places);
        let alone: Vec<Tensor> = rows
            .iter()
            .map(|row| plain.hidden(&Batch::right(&[row], 0, Device::Cpu)).i(0))
            .collect();
        let alone = Tensor::cat(&alone, 0);
        assert!(difference(&hidden, &alone) < 1e-5);
        for (model, hidden) in [(&shared, hidden), (&plain, alone)] {
            let weights = Tensor::arange(as_i64(hidden.numel()), (Kind::Float, Device::Cpu)).sin();
            (hidden.flatten(0, 1) * weights).sum(Kind::Float).backward();
            assert!(model.parameters["model.norm.weight"].grad().defined());
        }
        for (name, parameter) in &shared.parameters {
            let (one, other) = (parameter.grad(), plain.parameters[name].grad());
            assert_eq!(one.defined(), other.defined());
            assert!(!one.defined() || difference(&one, &other) < 1e-4, "{name}");
        }
    }
}
