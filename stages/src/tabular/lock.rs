//! A combination lock: one sequence of letters opens it, and whoever errs once can go on to the end, for nothing. What people have
//! tried is there, some of it the key, with judgements of which of two tries is better (after Chang et al. 2024).

use std::array;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::nn::{statistics::preferred, stream::Stream};

pub(super) const LETTERS: usize = 4;
/// How far one has come, and whether without an error.
pub(super) const STATES: usize = 2;

/// A number for each letter in each state of one step.
pub(super) type Cells = [[f64; LETTERS]; STATES];

/// People err where two tries are of equal worth, and in one of 150 cases else.
const NOISE: f64 = 0.2;
const STEPS: usize = 400;
const RATE: f64 = 2.0;
const DECAY: f64 = 0.001;

pub(super) struct Lock {
    key: Vec<usize>,
}

impl Lock {
    pub(super) fn of(length: usize, world: Stream) -> Self {
        Self { key: any(length, &mut world.generator()) }
    }

    pub(super) fn length(&self) -> usize {
        self.key.len()
    }

    /// 0 while there was no error, else 1.
    pub(super) fn state(&self, tried: &[usize]) -> usize {
        usize::from(!self.key.starts_with(tried))
    }

    /// How often a policy opens it: `Π_h π_h(key_h | no error)`.
    pub(super) fn opened(&self, policy: &[Cells]) -> f64 {
        policy.iter().zip(&self.key).map(|(cells, letter)| cells[0][*letter]).product()
    }

    /// Tries, of which about so large a share is the key, and the others any letters.
    pub(super) fn tries(&self, count: usize, share: f64, draws: Stream) -> Vec<Vec<usize>> {
        let one = |draws: Stream| {
            let mut draw = draws.generator();
            if draw.random_bool(share) { self.key.clone() } else { any(self.length(), &mut draw) }
        };
        draws.rows(count).map(one).collect()
    }

    /// What people's judgements of pairs of `tries` say of the last letter in its state, from 0 to 1: the most likely
    /// Bradley-Terry scores, up to what holds them near 0.
    pub(super) fn learnt_reward(&self, tries: &[Vec<usize>], pairs: usize, draws: Stream) -> Cells {
        let judged = |draws: Stream| {
            let mut draw = draws.generator();
            let [one, other] = array::from_fn(|_| &tries[draw.random_range(0..tries.len())]);
            let [worth, others] = [one, other].map(|it| f64::from(*it == self.key));
            let first = draw.random::<f64>() < preferred(worth - others, NOISE);
            let (better, worse) = if first { (one, other) } else { (other, one) };
            [better, worse].map(|it| self.end(it))
        };
        let pairs: Vec<[(usize, usize); 2]> = draws.rows(pairs).map(judged).collect();
        let mut scores = Cells::default();
        for _ in 0..STEPS {
            let mut rise = Cells::default();
            for [better, worse] in &pairs {
                let gap = scores[better.0][better.1] - scores[worse.0][worse.1];
                let doubt = 1.0 / (1.0 + gap.exp()) / pairs.len() as f64;
                rise[better.0][better.1] += doubt;
                rise[worse.0][worse.1] -= doubt;
            }
            for (score, rise) in scores.iter_mut().flatten().zip(rise.iter().flatten()) {
                *score += RATE * (rise - DECAY * *score);
            }
        }
        let [least, most] = [f64::min, f64::max]
            .map(|it| scores.iter().flatten().copied().reduce(it).unwrap_or_default());
        let span = if most > least { most - least } else { 1.0 };
        scores.map(|of| of.map(|score| (score - least) / span))
    }

    /// The state before the last letter, and the letter.
    pub(super) fn end(&self, tried: &[usize]) -> (usize, usize) {
        let (last, before) = tried.split_last().expect("a lock has a letter");
        (self.state(before), *last)
    }
}

fn any(length: usize, draw: &mut ChaCha8Rng) -> Vec<usize> {
    (0..length).map(|_| draw.random_range(0..LETTERS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_lasts_and_a_policy_opens_it_as_often_as_it_knows_every_letter() {
        let lock = Lock { key: vec![1, 3] };
        assert_eq!(
            [&[][..], &[1], &[0], &[1, 3], &[0, 3]].map(|it| lock.state(it)),
            [0, 0, 1, 0, 1]
        );
        let mut policy = vec![[[0.25; LETTERS]; STATES]; 2];
        policy[0][0][1] = 0.5;
        policy[1][0][3] = 0.75;
        assert!((lock.opened(&policy) - 0.375).abs() < 1e-12);
        assert_eq!(lock.end(&[1, 3]), (0, 3));
    }

    #[test]
    fn judgements_put_the_key_above_all_else() {
        let lock = Lock::of(8, Stream::of(1));
        let tries = lock.tries(300, 0.2, Stream::of(2));
        let keys = tries.iter().filter(|it| **it == lock.key).count();
        assert!((40..80).contains(&keys), "{keys}");
        let reward = lock.learnt_reward(&tries, 2000, Stream::of(3));
        let (state, letter) = lock.end(&lock.key);
        for (at, score) in reward[0].iter().enumerate() {
            assert!(if at == letter { *score > 0.999 } else { *score < 0.9 }, "{reward:?}");
        }
        assert!(state == 0 && reward[1].iter().all(|it| *it < 0.5), "{reward:?}");
    }
}
