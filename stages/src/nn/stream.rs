//! Streams of random numbers: named, counted, one per row.
//!
//! What a stream gives follows from the stage's seed and the names and counts that lead to it; never from a
//! device, the size of a batch, or what others drew. So variants of an experiment share their noise (common
//! random numbers), row by row.
//!
//! Nothing is drawn twice by accident: drawing consumes a stream, a name is given out once, and counts only go up.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// A place in the tree of all random choices of a stage.
#[derive(Debug)]
pub(crate) struct Stream {
    key: [u8; 32],
    named: BTreeSet<String>,
    /// The first count that is still to be given out.
    next: usize,
}

impl Stream {
    /// The root of a stage's streams.
    pub(crate) fn of(seed: u64) -> Self {
        Self::at_key(blake3::derive_key("gradus 2026 streams of a stage", &seed.to_le_bytes()))
    }

    fn at_key(key: [u8; 32]) -> Self {
        Self { key, named: BTreeSet::new(), next: 0 }
    }

    fn below(&self, sort: u8, name: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        Self::at_key(*hasher.update(&[sort]).update(name).finalize().as_bytes())
    }

    /// The stream of one purpose.
    ///
    /// # Panics
    ///
    /// If this one gave out the name before: both would draw the same numbers.
    pub(crate) fn named(&mut self, name: &str) -> Self {
        assert!(self.named.insert(name.to_owned()), "the stream `{name}` is given out twice");
        self.below(0, name.as_bytes())
    }

    /// The stream of one iteration, epoch, prompt: of whatever is counted.
    ///
    /// # Panics
    ///
    /// Unless `count` is above all that this one gave out before: some would draw the same numbers.
    pub(crate) fn at(&mut self, count: usize) -> Self {
        assert!(count >= self.next, "stream {count} comes after {} were given out", self.next);
        self.next = count + 1;
        self.below(1, &(count as u64).to_le_bytes())
    }

    /// The streams of rows, each with its number.
    pub(crate) fn rows(mut self, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(move |row| self.at(row))
    }

    /// The numbers themselves.
    pub(crate) fn generator(self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.key)
    }

    /// What tells it from every other stream.
    pub(crate) fn name(&self) -> String {
        blake3::Hash::from(self.key).to_hex().to_string()
    }

    /// A hash that is this stream's own, to put things into an order that only they and the stream decide.
    pub(crate) fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.key)
    }

    /// The rows in random order. Which of two comes first follows from their numbers and does not hang on what
    /// others there are.
    pub(crate) fn order(self, rows: &[usize], number: impl Fn(usize) -> usize) -> Vec<usize> {
        let hasher = self.hasher();
        let place = |row: &usize| {
            let mut hasher = hasher.clone();
            hasher.update(&(number(*row) as u64).to_le_bytes());
            *hasher.finalize().as_bytes()
        };
        let mut order = rows.to_vec();
        order.sort_by_cached_key(place);
        order
    }

    /// Uniform numbers in [0, 1).
    pub(crate) fn uniforms(self, count: usize) -> impl Iterator<Item = f64> {
        let mut generator = self.generator();
        (0..count).map(move |_| generator.random())
    }

    /// Normal numbers with mean 0, as float32: √(−2 ln u) cos 2πv (Box & Muller 1958).
    pub(crate) fn normal(self, shape: &[i64], deviation: f64) -> Tensor {
        let mut generator = self.generator();
        let mut draw = || {
            let (u, v): (f64, f64) = (generator.random(), generator.random());
            (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos() * deviation
        };
        let count = shape.iter().product::<i64>();
        #[expect(clippy::cast_possible_truncation, reason = "weights are float32")]
        let values: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
        Tensor::from_slice(&values).view(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(stream: Stream) -> f64 {
        stream.uniforms(1).next().unwrap()
    }

    #[test]
    fn numbers_follow_from_the_seed_and_the_way_to_the_stream() {
        let of = |seed, name, count| first(Stream::of(seed).named(name).at(count).at(3));
        assert!((of(1, "samples", 2) - of(1, "samples", 2)).abs() < f64::EPSILON);
        let all =
            [of(1, "samples", 2), of(2, "samples", 2), of(1, "order", 2), of(1, "samples", 4)];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| (one - other).abs() > f64::EPSILON));
        }
    }

    #[test]
    fn a_row_draws_the_same_whatever_was_drawn_before() {
        let mut whole = Stream::of(1).named("samples").rows(9);
        let mut later = Stream::of(1).named("samples");
        let (seventh, same) = (first(whole.nth(7).unwrap()), first(later.at(7)));
        assert!((seventh - same).abs() < f64::EPSILON);
    }

    #[test]
    fn rows_that_are_left_out_change_nothing_in_the_order_of_the_others() {
        let all = Stream::of(1).order(&(0..20).collect::<Vec<_>>(), |row| row);
        // Ten are left, which had the even numbers.
        let even = Stream::of(1).order(&(0..10).collect::<Vec<_>>(), |row| 2 * row);
        let left: Vec<usize> = all.into_iter().filter(|row| row % 2 == 0).collect();
        assert_eq!(left, even.iter().map(|row| 2 * row).collect::<Vec<_>>());
        assert_ne!(even, (0..10).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "`samples` is given out twice")]
    fn a_name_is_given_out_once() {
        let mut root = Stream::of(1);
        root.named("samples");
        root.named("samples");
    }

    #[test]
    #[should_panic(expected = "stream 4 comes after 5 were given out")]
    fn counts_only_go_up() {
        let mut root = Stream::of(1);
        root.at(4);
        root.at(4);
    }

    #[test]
    fn normal_numbers_have_the_deviation_asked_for() {
        let x = Stream::of(3).normal(&[100, 100], 0.5);
        assert!((x.std(true).double_value(&[]) - 0.5).abs() < 0.02);
        assert!(x.mean(tch::Kind::Float).double_value(&[]).abs() < 0.02);
    }
}
