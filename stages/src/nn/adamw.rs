//! Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), as `PyTorch` computes it.
//!
//! Our own, because the moments must be saved with a run and decay must skip norms and biases.

use std::{collections::BTreeMap, path::Path};

use tch::{Kind, Tensor};

use super::tensors::{read_tensors, write_tensors};
use crate::error::StageError;

#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamSettings {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

pub(crate) struct AdamW {
    settings: AdamSettings,
    /// Steps taken.
    step: i32,
    /// Means of gradients and of their squares.
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

/// True for matrices; norms and biases are left alone, as transformers does.
pub(crate) fn decays(name: &str) -> bool {
    !name.ends_with("bias") && !name.ends_with("norm.weight")
}

/// √Σ g² over all gradients there are.
pub(crate) fn gradient_norm<'p>(parameters: impl Iterator<Item = &'p Tensor>) -> Tensor {
    let gradients = parameters.map(Tensor::grad).filter(Tensor::defined);
    let norms: Vec<Tensor> = gradients.map(|gradient| gradient.norm()).collect();
    Tensor::stack(&norms, 0).norm()
}

impl AdamW {
    pub(crate) fn settings(&self) -> AdamSettings {
        self.settings
    }

    /// How many steps it has taken.
    pub(crate) fn steps(&self) -> usize {
        usize::try_from(self.step).unwrap_or(0)
    }

    pub(crate) fn new(settings: AdamSettings) -> Self {
        Self { settings, step: 0, moments: BTreeMap::new() }
    }

    /// Takes a step along the gradients times `scale`, and clears them.
    ///
    /// θ ← (1 − ηλ) θ − η m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).
    pub(crate) fn step(&mut self, parameters: &BTreeMap<String, Tensor>, rate: f64, scale: f64) {
        let _no_grad = tch::no_grad_guard();
        let AdamSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        self.step += 1;
        let bias1 = 1.0 - beta1.powi(self.step);
        let bias2 = 1.0 - beta2.powi(self.step);
        for (name, parameter) in parameters {
            let mut gradient = parameter.grad();
            if !gradient.defined() {
                continue;
            }
            let mut parameter = parameter.shallow_clone();
            if (scale - 1.0).abs() > f64::EPSILON {
                let _ = gradient.g_mul_scalar_(scale);
            }
            let (m, v) = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| (parameter.zeros_like(), parameter.zeros_like()));
            let _ = m.lerp_(&gradient, 1.0 - beta1);
            let _ = v.g_mul_scalar_(beta2);
            let _ = v.addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
            if weight_decay > 0.0 && decays(name) {
                let _ = parameter.g_mul_scalar_(1.0 - rate * weight_decay);
            }
            if rate > 0.0 {
                // The whole factor stands below the line, so that one pass divides and subtracts.
                let factor = -bias1 / rate;
                let mut below = v.sqrt();
                let _ = below.g_mul_scalar_(factor / bias2.sqrt());
                let _ = below.g_add_scalar_(factor * epsilon);
                let _ = parameter.addcdiv_(m, &below);
            }
            let _ = gradient.zero_();
        }
    }

    /// Writes the moments and the step count as safetensors.
    pub(crate) fn save(&self, path: &Path) -> Result<(), StageError> {
        let mut tensors = BTreeMap::new();
        for (name, (m, v)) in &self.moments {
            tensors.insert(format!("mean.{name}"), m.shallow_clone());
            tensors.insert(format!("square.{name}"), v.shallow_clone());
        }
        // In two halves, as float32 counts no further than 2²⁴.
        let halves = [self.step >> 16, self.step & 0xffff].map(f64::from);
        tensors.insert("step".to_owned(), Tensor::from_slice(&halves).to_kind(Kind::Float));
        write_tensors(&tensors, path)
    }

    /// Goes on where [`AdamW::save`] left off.
    pub(crate) fn load(
        settings: AdamSettings,
        parameters: &BTreeMap<String, Tensor>,
        path: &Path,
    ) -> Result<Self, StageError> {
        let stored = read_tensors(path, |name, shape| {
            let of = name.strip_prefix("mean.").or(name.strip_prefix("square."));
            match of.map(|name| parameters.get(name)) {
                None if name == "step" && shape == [2] => Ok(true),
                Some(Some(parameter)) if parameter.size() == shape => Ok(true),
                _ => Err(format!("`{name}` is not of this model's optimiser")),
            }
        })?;
        let mut stored: BTreeMap<String, Tensor> = stored.into_iter().collect();
        let lacking = || StageError::refused("the optimiser's state lacks a tensor");
        let halves = stored.remove("step").ok_or_else(lacking)?.to_kind(Kind::Int);
        let half = |at: i64| i32::try_from(halves.int64_value(&[at])).map_err(|_| lacking());
        let step = (half(0)? << 16) | half(1)?;
        let mut moments = BTreeMap::new();
        for (name, parameter) in parameters {
            let mean = stored.remove(&format!("mean.{name}"));
            let square = stored.remove(&format!("square.{name}"));
            if mean.is_some() || square.is_some() {
                let on = |x: Option<Tensor>| Some(x?.to_device(parameter.device()));
                let pair = on(mean).zip(on(square)).ok_or_else(lacking)?;
                moments.insert(name.clone(), pair);
            }
        }
        Ok(Self { settings, step, moments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One weight w = 1 with loss 3w, so the gradient is 3.
    fn step(optimizer: &mut AdamW, parameters: &BTreeMap<String, Tensor>) -> f64 {
        parameters["w"].sum(Kind::Float).g_mul_scalar(3.0).backward();
        optimizer.step(parameters, 0.1, 1.0);
        parameters["w"].double_value(&[0])
    }

    fn weight() -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[1_f32]).set_requires_grad(true))])
    }

    #[test]
    fn the_first_step_moves_by_the_rate_after_decay() {
        let settings = AdamSettings { weight_decay: 0.5, ..AdamSettings::default() };
        // (1 − 0.1 · 0.5) · 1 − 0.1 · 3 / (3 + 1e-8)
        assert!((step(&mut AdamW::new(settings), &weight()) - 0.85).abs() < 1e-6);
    }

    #[test]
    fn an_even_gradient_moves_by_the_rate_every_time() {
        // Bias correction makes m̂ = 3 and v̂ = 9 at each step.
        let (mut optimizer, parameters) = (AdamW::new(AdamSettings::default()), weight());
        for by_hand in [0.9, 0.8, 0.7] {
            assert!((step(&mut optimizer, &parameters) - by_hand).abs() < 1e-6);
        }
    }

    #[test]
    fn a_saved_optimiser_goes_on_as_if_never_stopped() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("adam.safetensors");
        let (parameters, settings) = (weight(), AdamSettings::default());
        let mut optimizer = AdamW::new(settings);
        step(&mut optimizer, &parameters);
        optimizer.save(&path).unwrap();
        let copy = BTreeMap::from([(
            "w".to_owned(),
            parameters["w"].detach().copy().set_requires_grad(true),
        )]);
        let mut loaded = AdamW::load(settings, &copy, &path).unwrap();
        let (one, other) = (step(&mut optimizer, &parameters), step(&mut loaded, &copy));
        assert!((one - other).abs() < f64::EPSILON);
    }

    #[test]
    fn norms_and_biases_do_not_decay() {
        assert!(decays("model.layers.0.mlp.up_proj.weight") && decays("model.embed_tokens.weight"));
        assert!(!decays("model.norm.weight") && !decays("model.layers.0.input_layernorm.weight"));
        assert!(!decays("model.layers.0.self_attn.q_norm.weight"));
        assert!(!decays("model.layers.0.self_attn.k_proj.bias"));
    }
}
