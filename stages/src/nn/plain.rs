//! The decoder once more, as loops over numbers, to hold the tensor code to its papers' formulas.
//!
//! One sequence, float64, nothing shared with `decoder.rs` but the names of the parameters.

use tch::{Device, Kind};

use super::{
    batch::Batch,
    config::{Config, Family, tests::tiny},
    decoder::Model,
    rope::{Rope, Scaling},
    stream::Stream,
};

type Vector = Vec<f64>;

struct Plain<'a>(&'a Model);

impl Plain<'_> {
    fn numbers(&self, name: &str) -> Option<Vector> {
        let tensor = self.0.parameters.get(name)?.to_kind(Kind::Double).flatten(0, -1);
        Some(Vec::try_from(tensor).unwrap())
    }

    fn linear(&self, x: &[f64], name: &str) -> Vector {
        let matrix = self.numbers(&format!("{name}.weight")).unwrap();
        let rows = matrix.chunks(x.len());
        let y = rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
        match self.numbers(&format!("{name}.bias")) {
            Some(bias) => y.zip(bias).map(|(y, b)| y + b).collect(),
            None => y.collect(),
        }
    }

    /// `x_i w_i / √(mean x² + ε)`.
    fn norm(&self, x: &[f64], name: &str) -> Vector {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let root = (mean + self.0.config.rms_norm_eps).sqrt();
        let weights = self.numbers(&format!("{name}.weight")).unwrap();
        x.iter().zip(weights).map(|(x, w)| x / root * w).collect()
    }

    /// Pair `(x_i, x_{i+d/2})` as a point of the plane, turned by position · `θ^(−2i/d)`.
    fn rotated(&self, x: &[f64], position: usize) -> Vector {
        let half = x.len() / 2;
        let mut turned = x.to_vec();
        for i in 0..half {
            let mut pace = self.0.config.rope.theta.powf(-2.0 * i as f64 / x.len() as f64);
            if let Scaling::Linear { factor } = self.0.config.rope.scaling {
                pace /= factor;
            }
            let (sin, cos) = (position as f64 * pace).sin_cos();
            turned[i] = x[i] * cos - x[i + half] * sin;
            turned[i + half] = x[i + half] * cos + x[i] * sin;
        }
        turned
    }

    /// What each head holds of each token: [head][token].
    fn heads(&self, x: &[Vector], layer: &str, name: &str, turn: bool) -> Vec<Vec<Vector>> {
        let size = usize::try_from(self.0.config.head_dim).unwrap();
        let one = |position: usize, head: &[f64]| {
            let norm = format!("{layer}.self_attn.{name}_norm");
            let known = self.numbers(&format!("{norm}.weight")).is_some();
            let head = if known { self.norm(head, &norm) } else { head.to_vec() };
            if turn { self.rotated(&head, position) } else { head }
        };
        let tokens: Vec<Vec<Vector>> = (x.iter().enumerate())
            .map(|(position, x)| {
                let all = self.linear(x, &format!("{layer}.self_attn.{name}_proj"));
                all.chunks(size).map(|head| one(position, head)).collect()
            })
            .collect();
        (0..tokens[0].len()).map(|h| tokens.iter().map(|t| t[h].clone()).collect()).collect()
    }

    /// `softmax(q · k / √d)` over a token and those before it, times v; some query heads share one of
    /// keys and values.
    fn attention(&self, x: &[Vector], layer: &str) -> Vec<Vector> {
        let (q, k, v) = (
            self.heads(x, layer, "q", true),
            self.heads(x, layer, "k", true),
            self.heads(x, layer, "v", false),
        );
        let sharing = q.len() / k.len();
        let mixed = |token: usize| -> Vector {
            let head = |(h, q): (usize, &Vec<Vector>)| {
                let (k, v) = (&k[h / sharing], &v[h / sharing]);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let odds: Vector = (0..=token)
                    .map(|other| (dot(&q[token], &k[other]) / (v[0].len() as f64).sqrt()).exp())
                    .collect();
                let all: f64 = odds.iter().sum();
                let part =
                    |i: usize| (0..=token).map(|other| odds[other] / all * v[other][i]).sum();
                (0..v[0].len()).map(part).collect::<Vector>()
            };
            q.iter().enumerate().flat_map(head).collect()
        };
        (0..x.len())
            .map(|token| self.linear(&mixed(token), &format!("{layer}.self_attn.o_proj")))
            .collect()
    }

    /// `W_down (silu(W_gate x) ⊙ W_up x)`.
    fn feed_forward(&self, x: &[f64], layer: &str) -> Vector {
        let gate = self.linear(x, &format!("{layer}.mlp.gate_proj"));
        let up = self.linear(x, &format!("{layer}.mlp.up_proj"));
        let inner: Vector = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        self.linear(&inner, &format!("{layer}.mlp.down_proj"))
    }

    fn hidden(&self, ids: &[u32]) -> Vec<Vector> {
        let embedding = self.numbers("model.embed_tokens.weight").unwrap();
        let width = usize::try_from(self.0.config.hidden_size).unwrap();
        let mut x: Vec<Vector> =
            (ids.iter()).map(|id| embedding[*id as usize * width..][..width].to_vec()).collect();
        for layer in 0..self.0.config.layers {
            let layer = format!("model.layers.{layer}");
            let normed: Vec<_> =
                x.iter().map(|x| self.norm(x, &format!("{layer}.input_layernorm"))).collect();
            add(&mut x, self.attention(&normed, &layer));
            let forward = |x: &Vector| {
                let x = self.norm(x, &format!("{layer}.post_attention_layernorm"));
                self.feed_forward(&x, &layer)
            };
            let more = x.iter().map(forward).collect();
            add(&mut x, more);
        }
        x.iter().map(|x| self.norm(x, "model.norm")).collect()
    }
}

fn add(x: &mut [Vector], more: Vec<Vector>) {
    let numbers = x.iter_mut().flatten().zip(more.into_iter().flatten());
    numbers.for_each(|(x, more)| *x += more);
}

/// Four query heads of four numbers on two of keys and values.
fn config() -> Config {
    Config { head_dim: 4, initializer_range: 0.7, ..tiny() }
}

#[track_caller]
fn same(config: Config) {
    let mut model = Model::fresh(config, Stream::of(11), Device::Cpu);
    let mut noise = Stream::of(5);
    for (name, parameter) in &mut model.parameters {
        if parameter.dim() == 1 {
            *parameter += noise.named(name).normal(&parameter.size(), 0.3);
        }
    }
    let ids = [3_u32, 9, 2, 15, 3, 7];
    let hidden = model.hidden(&Batch::right(&[&ids[..]], 0, Device::Cpu)).flatten(0, -1);
    let ours = Vector::try_from(hidden.to_kind(Kind::Double)).unwrap();
    let plain: Vector = Plain(&model).hidden(&ids).into_iter().flatten().collect();
    assert_eq!(ours.len(), plain.len());
    let gap = ours.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap < 1e-4, "off by {gap:e}");
}

#[test]
fn llama_is_what_its_formulas_say() {
    same(config());
    same(Config { kv_heads: 4, attention_bias: true, ..config() });
    same(Config { kv_heads: 1, mlp_bias: true, ..config() });
}

#[test]
fn turns_may_be_slowed() {
    same(Config {
        rope: Rope { theta: 50.0, scaling: Scaling::Linear { factor: 3.0 } },
        ..config()
    });
}

#[test]
fn qwen_has_biases_or_norms_of_queries_and_keys() {
    same(Config { family: Family::Qwen2, ..config() });
    same(Config { family: Family::Qwen3, ..config() });
}
