//! Random numbers that depend on a seed and a purpose, never on a device or on how work is batched.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// A seed of its own for each purpose.
pub(crate) fn derive(seed: u64, purpose: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 seed of a purpose");
    hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
    let mut derived = [0; 8];
    derived.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(derived)
}

pub(crate) fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// 0..count in random order.
pub(crate) fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut generator(seed));
    order
}

/// Uniform numbers in [0, 1).
pub(crate) fn uniforms(count: usize, seed: u64) -> Vec<f64> {
    let mut generator = generator(seed);
    (0..count).map(|_| generator.random()).collect()
}

/// Normal numbers with mean 0: √(−2 ln u) cos 2πv (Box & Muller 1958).
pub(crate) fn normal(shape: &[i64], deviation: f64, seed: u64) -> Tensor {
    let mut generator = generator(seed);
    let mut draw = || {
        let (u, v): (f64, f64) = (generator.random(), generator.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos() * deviation
    };
    let count = shape.iter().product::<i64>();
    #[expect(clippy::cast_possible_truncation, reason = "weights are float32")]
    let values: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_deviation_asked_for() {
        let x = normal(&[100, 100], 0.5, 3);
        assert!((x.std(true).double_value(&[]) - 0.5).abs() < 0.02);
        assert!(x.mean(tch::Kind::Float).double_value(&[]).abs() < 0.02);
    }
}
