//! A game of preferences: how often each of a few answers is preferred to each other one, and how often a reference gives them.
//!
//! Both players are held to the reference: `P_τ(π ≻ π') = P(π ≻ π') − τ KL(π‖μ) + τ KL(π'‖μ)` (Munos et al. 2023). That has
//! one equilibrium, and it is computed here, so that what learns is held against the truth.

use crate::error::StageError;

/// What an equilibrium is that is as good as exact, and after how many steps none is expected any more.
const EXACT: f64 = 1e-13;
const MOST_STEPS: usize = 5_000_000;

pub(crate) struct Game {
    /// How often the row is preferred to the column.
    pub(crate) preference: Vec<Vec<f64>>,
    /// μ.
    pub(crate) reference: Vec<f64>,
    /// τ: what a nat of divergence from the reference costs.
    pub(crate) tau: f64,
}

impl Game {
    /// `P(y ≻ π)` for every answer y.
    pub(crate) fn won(&self, policy: &[f64]) -> Vec<f64> {
        let against = |row: &Vec<f64>| row.iter().zip(policy).map(|(a, b)| a * b).sum();
        self.preference.iter().map(against).collect()
    }

    /// How much more than a half the best answer to a policy wins, of `P_τ`: `τ log Σ_y μ(y) exp(P(y ≻ π)/τ) + τ KL(π‖μ) − ½`. It
    /// is 0 at the equilibrium, and above it everywhere else.
    pub(crate) fn gap(&self, policy: &[f64]) -> f64 {
        let logs: Vec<f64> = self
            .won(policy)
            .iter()
            .zip(&self.reference)
            .map(|(q, mu)| mu.ln() + q / self.tau)
            .collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
        self.tau * (most + sum.ln()) + self.tau * divergence(policy, &self.reference) - 0.5
    }

    /// `π ∝ anchor · exp(η q)`, with an anchor between the policy and the reference: `π^(1−ητ) μ^(ητ)`.
    pub(crate) fn step(&self, policy: &[f64], eta: f64, won: &[f64]) -> Vec<f64> {
        let anchor = self.anchor(policy, eta);
        softmax(anchor.iter().zip(won).map(|(m, q)| m.ln() + eta * q))
    }

    /// The geometric mixture `∝ π^(1−ητ) μ^(ητ)` (Munos et al. 2023).
    pub(crate) fn anchor(&self, policy: &[f64], eta: f64) -> Vec<f64> {
        let pull = eta * self.tau;
        let mixed = |(own, mu): (&f64, &f64)| {
            // Where nothing of the policy is left it counts for nothing, and a logarithm of 0 would spoil it.
            if pull >= 1.0 { mu.ln() } else { (1.0 - pull) * own.ln() + pull * mu.ln() }
        };
        softmax(policy.iter().zip(&self.reference).map(mixed))
    }

    /// The policy that no other beats: the fixed point of steps against oneself that are short enough to contract, as preferences
    /// differ from a half by a half at most.
    pub(crate) fn equilibrium(&self) -> Result<Vec<f64>, StageError> {
        let eta = self.tau / (self.tau.powi(2) + 0.25);
        let mut policy = self.reference.clone();
        for step in 0..MOST_STEPS {
            policy = self.step(&policy, eta, &self.won(&policy));
            if step % 100 == 0 && self.gap(&policy) < EXACT {
                return Ok(policy);
            }
        }
        Err(StageError::refused(format!(
            "no equilibrium was found to {EXACT:e} within {MOST_STEPS} steps: raise `tau`, which is {}",
            self.tau
        )))
    }
}

/// `KL(p‖q)` in nats.
pub(crate) fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let term = |(p, q): (&f64, &f64)| if *p > 0.0 { p * (p.ln() - q.ln()) } else { 0.0 };
    p.iter().zip(q).map(term).sum()
}

pub(crate) fn softmax(logs: impl Iterator<Item = f64>) -> Vec<f64> {
    let logs: Vec<f64> = logs.collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    normalised(logs.into_iter().map(|log| (log - most).exp()).collect())
}

pub(crate) fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|it| it / all).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Three sorts of people, who rank three answers in a circle; of the second sort there are `more` than a third.
    pub(crate) fn raters(more: f64, tau: f64) -> Game {
        let [first, second, third] =
            [1.0 / 3.0 - more / 4.0, 1.0 / 3.0 + more / 2.0, 1.0 / 3.0 - more / 4.0];
        // A ≻ B ≻ C, B ≻ C ≻ A and C ≻ A ≻ B.
        let preference = vec![
            vec![0.5, first + third, first],
            vec![second, 0.5, first + second],
            vec![second + third, third, 0.5],
        ];
        Game { preference, reference: vec![1.0 / 3.0; 3], tau }
    }

    #[test]
    fn the_gap_is_that_of_the_best_answer() {
        let game = raters(0.3, 0.5);
        let policy = [0.2, 0.5, 0.3];
        let best = softmax(
            game.won(&policy).into_iter().zip(&game.reference).map(|(q, mu)| mu.ln() + q / 0.5),
        );
        let won: f64 = game.won(&policy).iter().zip(&best).map(|(q, own)| q * own).sum();
        let by_hand = won - 0.5 * divergence(&best, &game.reference)
            + 0.5 * divergence(&policy, &game.reference)
            - 0.5;
        assert!((game.gap(&policy) - by_hand).abs() < 1e-12);
    }

    #[test]
    fn as_people_change_their_minds_a_little_the_equilibrium_changes_a_little() {
        let of = |percent: i32| raters(f64::from(percent) / 100.0, 0.01).equilibrium().unwrap();
        for percent in -5..5 {
            let (one, next) = (of(percent), of(percent + 1));
            assert!(one.iter().zip(&next).all(|(a, b)| (a - b).abs() < 0.02), "{one:?} {next:?}");
        }
        // (1/3 + e/2, 1/3 + e/2, 1/3 − e), up to what the reference holds.
        let [first, second, third] = of(5)[..] else { panic!("three answers") };
        assert!((first - second).abs() < 0.02 && third < 0.3, "{first} {second} {third}");
    }
}
