//! Keys and values of the tokens so far, in buffers as long as the rows can get, for whoever writes token by token.

use tch::{IndexOp, Kind, Tensor};

use super::{
    attention::{Sight, attention, behind, hidden},
    batch::{Batch, Lie},
    config::Config,
    decoder::{Model, Weights, by_rows},
};

pub(crate) struct Cache {
    /// As the model has them, made ready once.
    pub(super) weights: Weights,
    layers: Vec<(Tensor, Tensor)>,
    /// Added to what every query thinks of a key: hides padding. [rows, longest]
    padding: Tensor,
    padded: bool,
    pub(super) length: i64,
}

impl Cache {
    pub(crate) fn new(model: &Model, rows: i64, longest: i64) -> Self {
        let Config { kv_heads, head_dim, layers, .. } = model.config;
        let device = model.device();
        let buffer = || Tensor::zeros([rows, kv_heads, longest, head_dim], (Kind::Float, device));
        Self {
            weights: model.weights(),
            layers: (0..layers).map(|_| (buffer(), buffer())).collect(),
            padding: Tensor::zeros([rows, longest], (Kind::Float, device)),
            padded: false,
            length: 0,
        }
    }

    /// Keeps only the rows named.
    pub(crate) fn select(&mut self, rows: &Tensor) {
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, rows);
            *values = values.index_select(0, rows);
        }
        self.padding = self.padding.index_select(0, rows);
    }

    /// The rows named, each as often as it is, with room up to `longest`.
    pub(crate) fn spread(self, rows: &Tensor, longest: i64) -> Self {
        let copied = |from: &Tensor, along: i64| {
            let mut size = from.size();
            size[0] = rows.size()[0];
            size[usize::try_from(along).unwrap_or(0)] = longest;
            let to = Tensor::zeros(&size, (Kind::Float, from.device()));
            let past = from.narrow(along, 0, self.length).index_select(0, rows);
            to.narrow(along, 0, self.length).copy_(&past);
            to
        };
        let layers = self.layers.iter().map(|(k, v)| (copied(k, 2), copied(v, 2))).collect();
        let padding = copied(&self.padding, 1);
        Self { layers, padding, ..self }
    }

    /// Takes note of the tokens of `batch`, before their keys come; says which keys they look at.
    pub(super) fn sight(&mut self, batch: &Batch) -> Sight {
        let (width, device) = (batch.width(), batch.ids.device());
        if batch.lie != Lie::Full {
            self.padded = true;
            let unseen = hidden(&batch.segments.le(0));
            self.padding.narrow(1, self.length, width).copy_(&unseen);
        }
        let length = self.length + width;
        if !self.padded {
            return match (width, self.length) {
                (1, _) => Sight::Whole,
                (_, 0) => Sight::back(width, device),
                _ => Sight::Marked(behind(width, length, device)),
            };
        }
        let padding = self.padding.narrow(1, 0, length).unsqueeze(1).unsqueeze(1);
        Sight::Marked(if width == 1 { padding } else { padding + behind(width, length, device) })
    }

    /// Takes in keys and values of the next tokens in a layer, and gives those of all so far.
    pub(super) fn extend(&self, layer: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let width = keys.size()[2];
        let put = |buffer: &Tensor, new: &Tensor| {
            buffer.narrow(2, self.length, width).copy_(new);
            buffer.i((.., .., ..self.length + width))
        };
        let (all_keys, all_values) = &self.layers[layer];
        (put(all_keys, keys), put(all_values, values))
    }
}

impl Model {
    /// The last hidden states of the next tokens of rows whose past is in `cache`, which takes these in: [rows, width, hidden].
    pub(crate) fn hidden_after(&self, batch: &Batch, cache: &mut Cache) -> Tensor {
        let sight = cache.sight(batch);
        let rows = batch.rows();
        let before = &*cache;
        let hidden =
            self.layers(&before.weights, &batch.ids, &batch.positions, |layer, q, k, v| {
                let [q, k, v] = [q, k, v].map(|it| by_rows(it, rows));
                let (k, v) = before.extend(layer, &k, &v);
                attention(&q, &k, &v, &sight)
            });
        cache.length += batch.width();
        hidden.view([rows, batch.width(), -1])
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    #[test]
    fn a_cache_gives_what_the_whole_row_gives() {
        let model = Model::fresh(tiny(), Stream::of(7), Device::Cpu);
        let whole = Batch::right(&[&[2_u32, 3, 4, 5][..]], 0, Device::Cpu);
        let part = |from: i64, to: i64| Batch {
            ids: whole.ids.i((.., from..to)),
            segments: whole.segments.i((.., from..to)),
            positions: whole.positions.i((.., from..to)),
            lie: Lie::Full,
        };
        let mut cache = Cache::new(&model, 1, 4);
        let first = model.hidden_after(&part(0, 3), &mut cache);
        let last = model.hidden_after(&part(3, 4), &mut cache);
        let apart = model.hidden(&whole) - Tensor::cat(&[first, last], 1);
        assert!(apart.abs().max().double_value(&[]) < 1e-6);
    }
}
