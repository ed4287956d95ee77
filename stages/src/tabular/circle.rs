//! Games by chance, in which preferences go in circles.

use rand::Rng;

use crate::nn::{
    game::{Game, normalised},
    stream::Stream,
};

/// How often the stronger of two answers is preferred, beyond half, up to [`SPREAD`] more or less.
const STRENGTH: f64 = 0.35;
const SPREAD: f64 = 0.1;
/// Of the reference, so much is the same for all answers.
const EVEN: f64 = 0.1;

/// Answers in a circle, of which each is preferred to the half behind it, and a reference by chance.
pub(super) fn drawn(answers: usize, tau: f64, stream: Stream) -> Game {
    let mut draw = stream.generator();
    let mut preference = vec![vec![0.5; answers]; answers];
    for (i, j) in (0..answers).flat_map(|i| (i + 1..answers).map(move |j| (i, j))) {
        let strength = if j - i <= answers / 2 { STRENGTH } else { -STRENGTH };
        let beyond = strength + draw.random_range(-SPREAD..SPREAD);
        preference[i][j] += beyond;
        preference[j][i] -= beyond;
    }
    // Dirichlet with all parameters 3: each a sum of three exponential waiting times.
    let mut waited = || (0..3).map(|_| -(1.0 - draw.random::<f64>()).ln()).sum::<f64>();
    let habits = normalised((0..answers).map(|_| waited()).collect());
    let reference = habits.iter().map(|it| (1.0 - EVEN) * it + EVEN / answers as f64);
    Game { preference, reference: reference.collect(), tau }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::game::softmax;

    #[test]
    fn the_equilibrium_is_what_it_answers_to_itself() {
        for seed in 0..6 {
            let game = drawn(5, 0.1, Stream::of(seed));
            let found = game.equilibrium().unwrap();
            let logs =
                game.won(&found).into_iter().zip(&game.reference).map(|(q, mu)| mu.ln() + q / 0.1);
            let answer = softmax(logs);
            assert!(
                found.iter().zip(&answer).all(|(a, b)| (a - b).abs() < 1e-5),
                "{found:?} {answer:?}"
            );
            assert!(game.gap(&game.reference) > 1e-3);
            // Whoever plays it wins half of the time against itself.
            let won: f64 = game.won(&found).iter().zip(&found).map(|(q, own)| q * own).sum();
            assert!((won - 0.5).abs() < 1e-12);
        }
    }
}
