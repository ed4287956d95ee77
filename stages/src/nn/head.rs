//! What the output head says of tokens, in tiles: never all places × vocabulary at once.
//!
//! A tile's logits live while its numbers are computed. Where gradients are wanted and there are several tiles,
//! they are computed again on the way back ([`Tail::backward`]), as memory is dearer than one more product.

use tch::{Kind, Tensor};

use super::decoder::Model;

/// Numbers of one tile: 64 MiB in float32.
const TILE: i64 = 1 << 24;

/// What is said of each token, all `[places]`.
pub(crate) struct Said {
    pub(crate) log_probs: Tensor,
    /// Mean over the vocabulary of log p.
    pub(crate) mean_logs: Tensor,
    /// 1 where the token is the most likely one; without gradient.
    pub(crate) correct: Tensor,
    /// Nats, of the distribution that the token is drawn from; without gradient, but from [`said_with_entropy`].
    pub(crate) entropy: Tensor,
}

/// Of logits [places, vocabulary] and the tokens that follow, numbers for each: `[numbers, places]`.
type Compute = fn(&Tensor, &Tensor) -> Tensor;

/// The way back through a head that was computed in several tiles.
pub(crate) struct Tail {
    hidden: Tensor,
    ids: Tensor,
    /// What the loss was computed from.
    numbers: Tensor,
    compute: Compute,
    tile: i64,
}

/// What the head says of `ids` at the hidden states before them: [places, hidden] and `[places]`. With
/// gradients the loss must be taken back through the tail, too, where there is one.
pub(crate) fn said(model: &Model, hidden: &Tensor, ids: &Tensor) -> (Said, Option<Tail>) {
    let (said, tail) = said_with(model, hidden, ids, said_of);
    (Said { entropy: said.entropy.detach(), ..said }, tail)
}

/// The same, where entropies have gradients, too: it needs more memory.
pub(crate) fn said_with_entropy(
    model: &Model,
    hidden: &Tensor,
    ids: &Tensor,
) -> (Said, Option<Tail>) {
    said_with(model, hidden, ids, said_with_entropy_of)
}

fn said_with(
    model: &Model,
    hidden: &Tensor,
    ids: &Tensor,
    compute: Compute,
) -> (Said, Option<Tail>) {
    let (numbers, tail) = in_tiles(model, hidden, ids, compute, tile(model));
    let [log_probs, mean_logs, correct, entropy] = [0, 1, 2, 3].map(|i| numbers.get(i));
    (Said { log_probs, mean_logs, correct: correct.detach(), entropy }, tail)
}

/// The log-probabilities alone, for less: `[places]`.
pub(crate) fn log_probs(model: &Model, hidden: &Tensor, ids: &Tensor) -> (Tensor, Option<Tail>) {
    let (numbers, tail) = in_tiles(model, hidden, ids, log_probs_of, tile(model));
    (numbers.get(0), tail)
}

/// Where each tile of so many places begins, and how many it has.
pub(crate) fn tiles(model: &Model, places: i64) -> impl Iterator<Item = (i64, i64)> {
    tiles_of(places, tile(model))
}

/// Places of one tile.
fn tile(model: &Model) -> i64 {
    (TILE / model.config.vocab_size).max(1)
}

fn tiles_of(places: i64, tile: i64) -> impl Iterator<Item = (i64, i64)> {
    let starts = (0..places).step_by(usize::try_from(tile).unwrap_or(1));
    starts.map(move |start| (start, tile.min(places - start)))
}

fn in_tiles(
    model: &Model,
    hidden: &Tensor,
    ids: &Tensor,
    compute: Compute,
    tile: i64,
) -> (Tensor, Option<Tail>) {
    let places = ids.size()[0];
    if places <= tile {
        return (compute(&model.logits(hidden), ids), None);
    }
    let part = |(start, length)| {
        let logits = model.logits(&hidden.narrow(0, start, length));
        compute(&logits, &ids.narrow(0, start, length))
    };
    let parts = tch::no_grad(|| tiles_of(places, tile).map(part).collect::<Vec<_>>());
    let numbers = Tensor::cat(&parts, 1);
    if !hidden.requires_grad() {
        return (numbers, None);
    }
    let numbers = numbers.set_requires_grad(true);
    let (hidden, ids) = (hidden.shallow_clone(), ids.shallow_clone());
    (numbers.shallow_clone(), Some(Tail { hidden, ids, numbers, compute, tile }))
}

fn log_probs_of(logits: &Tensor, ids: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Float).gather(-1, &ids.unsqueeze(-1), false).transpose(0, 1)
}

/// As [`Said`] has them.
fn said_of(logits: &Tensor, ids: &Tensor) -> Tensor {
    let logs = logits.log_softmax(-1, Kind::Float);
    let entropy = tch::no_grad(|| entropy_of(&logs));
    numbers_of(logits, &logs, ids, entropy)
}

fn said_with_entropy_of(logits: &Tensor, ids: &Tensor) -> Tensor {
    let logs = logits.log_softmax(-1, Kind::Float);
    let entropy = entropy_of(&logs);
    numbers_of(logits, &logs, ids, entropy)
}

fn entropy_of(logs: &Tensor) -> Tensor {
    -(logs.exp() * logs).sum_dim_intlist(-1, false, Kind::Float)
}

fn numbers_of(logits: &Tensor, logs: &Tensor, ids: &Tensor, entropy: Tensor) -> Tensor {
    let correct = tch::no_grad(|| logits.argmax(-1, false).eq_tensor(ids).to_kind(Kind::Float));
    let log_probs = logs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1);
    Tensor::stack(&[log_probs, logs.mean_dim(-1, false, Kind::Float), correct, entropy], 0)
}

impl Tail {
    /// Adds to the gradients of `model` what comes back through the head, and through all below it. To be called
    /// once the loss has been taken back to what was said.
    pub(crate) fn backward(self, model: &Model) -> Result<(), tch::TchError> {
        let gradient = self.numbers.grad();
        if !gradient.defined() {
            return Ok(());
        }
        let leaf = self.hidden.detach().set_requires_grad(true);
        for (start, length) in tiles_of(self.ids.size()[0], self.tile) {
            let logits = model.logits(&leaf.narrow(0, start, length));
            let numbers = (self.compute)(&logits, &self.ids.narrow(0, start, length));
            (numbers * gradient.narrow(1, start, length)).f_sum(Kind::Float)?.f_backward()?;
        }
        (self.hidden * leaf.grad()).f_sum(Kind::Float)?.f_backward()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    /// The loss of some tokens and the gradients of all parameters.
    fn loss(tile: i64) -> (f64, Vec<Tensor>) {
        let model = Model::fresh(tiny(), Stream::of(3), Device::Cpu).trainable();
        let ids = Tensor::from_slice(&[2_i64, 5, 9, 1, 7]);
        let embedded = Tensor::embedding(
            &model.parameters["model.embed_tokens.weight"],
            &ids,
            -1,
            false,
            false,
        );
        let (said, tail) = in_tiles(&model, &embedded, &ids, said_with_entropy_of, tile);
        assert_eq!(tail.is_some(), tile < 5);
        let loss = (said.get(0).square() - said.get(1) * 0.3 - said.get(3) * 0.2).sum(Kind::Float);
        loss.backward();
        if let Some(tail) = tail {
            tail.backward(&model).unwrap();
        }
        let gradients = model.parameters.values().map(Tensor::grad).filter(Tensor::defined);
        (loss.double_value(&[]), gradients.collect())
    }

    #[test]
    fn tiles_give_the_loss_and_the_gradients_of_the_whole() {
        let (whole, gradients) = loss(5);
        assert_eq!(gradients.len(), 2);
        for tile in [1, 2, 4] {
            let (tiled, others) = loss(tile);
            assert!((whole - tiled).abs() < 1e-5);
            for (one, other) in gradients.iter().zip(&others) {
                assert!((one - other).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }

    #[test]
    fn a_token_of_odds_three_to_one() {
        let (logits, ids) = (Tensor::from_slice(&[3_f32.ln(), 0.0]), Tensor::from_slice(&[1_i64]));
        let said = said_of(&logits.view([1, 2]), &ids);
        let close = |number: i64, by_hand: f64| {
            assert!((said.double_value(&[number, 0]) - by_hand).abs() < 1e-6);
        };
        let (won, lost) = (0.75_f64.ln(), 0.25_f64.ln());
        close(0, lost);
        assert_eq!(log_probs_of(&logits.view([1, 2]), &ids).get(0), said.get(0));
        close(1, f64::midpoint(won, lost));
        close(2, 0.0);
        close(3, -(0.75 * won + 0.25 * lost));
    }
}
