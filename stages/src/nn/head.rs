//! What the output head says of tokens, in tiles: never all places × vocabulary at once.
//!
//! The way back is written out here and not left to libtorch's tape ([`Tail::backward`]), which would go over places ×
//! vocabulary twice as often. Of a single tile the log-probabilities are kept until then; of several they are computed
//! again, as memory is dearer than one more product.

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

/// Which numbers of a token are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// log p.
    LogProbs,
    /// As [`Said`] has them.
    All,
    /// The same, entropies with gradients.
    WithEntropy,
}

/// The way back through the head: what was said has gradients, and those are to be taken on.
pub(crate) struct Tail {
    hidden: Tensor,
    ids: Tensor,
    /// What the loss was computed from.
    numbers: Tensor,
    asked: Asked,
    tile: i64,
    /// log p of the whole vocabulary, where there is one tile.
    logs: Option<Tensor>,
    /// The states that a loss is about besides, and the leaf in which what comes back to them gathers.
    shared: Option<(Tensor, Tensor)>,
}

/// What the head says of `ids` at the hidden states before them: [places, hidden] and `[places]`. With gradients the loss
/// must be taken back through the tail, too.
pub(crate) fn said(model: &Model, hidden: &Tensor, ids: &Tensor) -> (Said, Option<Tail>) {
    let (said, tail) = said_with(model, hidden, ids, Asked::All);
    (Said { entropy: said.entropy.detach(), ..said }, tail)
}

/// The same, where entropies have gradients, too: it takes longer.
pub(crate) fn said_with_entropy(
    model: &Model,
    hidden: &Tensor,
    ids: &Tensor,
) -> (Said, Option<Tail>) {
    said_with(model, hidden, ids, Asked::WithEntropy)
}

fn said_with(model: &Model, hidden: &Tensor, ids: &Tensor, asked: Asked) -> (Said, Option<Tail>) {
    let (numbers, tail) = in_tiles(model, hidden, ids, asked, tile(model));
    let [log_probs, mean_logs, correct, entropy] = [0, 1, 2, 3].map(|i| numbers.get(i));
    (Said { log_probs, mean_logs, correct: correct.detach(), entropy }, tail)
}

/// The log-probabilities alone, for less: `[places]`.
pub(crate) fn log_probs(model: &Model, hidden: &Tensor, ids: &Tensor) -> (Tensor, Option<Tail>) {
    let (numbers, tail) = in_tiles(model, hidden, ids, Asked::LogProbs, tile(model));
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
    asked: Asked,
    tile: i64,
) -> (Tensor, Option<Tail>) {
    let places = ids.size()[0];
    let learns = hidden.requires_grad();
    let mut kept = None;
    let numbers = tch::no_grad(|| {
        let mut part = |(start, length): (i64, i64)| {
            let logits = model.logits(&hidden.narrow(0, start, length));
            let logs = logits.log_softmax(-1, Kind::Float);
            let numbers = numbers_of(&logs, &ids.narrow(0, start, length), asked);
            kept = (learns && length == places).then_some(logs);
            numbers
        };
        if places <= tile {
            part((0, places))
        } else {
            Tensor::cat(&tiles_of(places, tile).map(part).collect::<Vec<_>>(), 1)
        }
    });
    if !learns {
        return (numbers, None);
    }
    let numbers = numbers.set_requires_grad(true);
    let (hidden, ids) = (hidden.shallow_clone(), ids.shallow_clone());
    (
        numbers.shallow_clone(),
        Some(Tail { hidden, ids, numbers, asked, tile, logs: kept, shared: None }),
    )
}

/// Of the log-probabilities of the vocabulary and the tokens that follow, what was asked: [numbers, places].
fn numbers_of(logs: &Tensor, ids: &Tensor, asked: Asked) -> Tensor {
    let log_probs = logs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1);
    if asked == Asked::LogProbs {
        return log_probs.unsqueeze(0);
    }
    let correct = logs.argmax(-1, false).eq_tensor(ids).to_kind(Kind::Float);
    let means = logs.mean_dim(-1, false, Kind::Float);
    Tensor::stack(&[log_probs, means, correct, entropy_of(logs)], 0)
}

/// −Σ p log p.
fn entropy_of(logs: &Tensor) -> Tensor {
    -(logs.exp() * logs).sum_dim_intlist(-1, false, Kind::Float)
}

impl Tail {
    /// Adds to the gradients of `model` what comes back through the head, and through all below it. To be called
    /// once the loss has been taken back to what was said.
    pub(crate) fn backward(self, model: &Model) -> Result<(), tch::TchError> {
        let gradient = self.numbers.grad();
        if gradient.defined() {
            let head = model.head();
            let (below, own) = tch::no_grad(|| self.products(&head.detach(), &gradient));
            let sum =
                (self.hidden * below).f_sum(Kind::Float)? + (head * own).f_sum(Kind::Float)?;
            sum.f_backward()?;
        }
        match self.shared {
            Some((hidden, leaf)) if leaf.grad().defined() => {
                (hidden * leaf.grad()).f_sum(Kind::Float)?.f_backward()
            }
            _ => Ok(()),
        }
    }

    /// The same where the loss is about the states `hidden` besides: it took them, as the head did, from `leaf`. So what is below is
    /// gone back through once.
    pub(crate) fn sharing(self, hidden: Tensor, leaf: Tensor) -> Self {
        Self { shared: Some((hidden, leaf)), ..self }
    }

    /// The gradients of the hidden states and of the head's weights.
    fn products(&self, head: &Tensor, gradient: &Tensor) -> (Tensor, Tensor) {
        let hidden = self.hidden.detach();
        let places = self.ids.size()[0];
        let (mut below, mut own) = (Vec::new(), head.zeros_like());
        for (start, length) in tiles_of(places, self.tile) {
            let hidden = hidden.narrow(0, start, length);
            let logs = match &self.logs {
                Some(logs) => logs.shallow_clone(),
                None => hidden.linear::<Tensor>(head, None).log_softmax(-1, Kind::Float),
            };
            let ids = self.ids.narrow(0, start, length);
            let of_logits = self.of_logits(logs, &ids, &gradient.narrow(1, start, length));
            below.push(of_logits.matmul(head));
            let _ = own.addmm_(&of_logits.tr(), &hidden);
        }
        let mut below = Tensor::cat(&below, 0);
        if self.asked != Asked::LogProbs {
            // What comes through the mean of log p is the same for the whole vocabulary, so it needs no places × vocabulary.
            let each = gradient.get(1).unsqueeze(1) / head.size()[0] as f64;
            below += head.sum_dim_intlist(0, true, Kind::Float) * &each;
            own += (hidden * each).sum_dim_intlist(0, true, Kind::Float);
        }
        (below, own)
    }

    /// `g₁ 1[v = y] − p_v (g₁ + g₂ + g₄ (log p_v + H))` with g₁ to g₄ the gradients of the numbers, as `log p_v` has the
    /// gradient `1[v = u] − p_u`, and H has `−p_u (log p_u + H)`. Takes the log-probabilities' place.
    fn of_logits(&self, mut logs: Tensor, ids: &Tensor, gradient: &Tensor) -> Tensor {
        let own = gradient.get(0).unsqueeze(1);
        let mut worth = match self.asked {
            Asked::LogProbs => -&own,
            _ => -(&own + gradient.get(1).unsqueeze(1)),
        };
        if self.asked == Asked::WithEntropy {
            let more = &logs + entropy_of(&logs).unsqueeze(1);
            worth = worth.g_sub(&(more * gradient.get(3).unsqueeze(1)));
        }
        let _ = logs.exp_();
        let _ = logs.g_mul_(&worth);
        let _ = logs.scatter_add_(1, &ids.unsqueeze(1), &own);
        logs
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
        let (said, tail) = in_tiles(&model, &embedded, &ids, Asked::WithEntropy, tile);
        let loss = (said.get(0).square() - said.get(1) * 0.3 - said.get(3) * 0.2).sum(Kind::Float);
        loss.backward();
        tail.unwrap().backward(&model).unwrap();
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
    fn the_way_back_is_that_of_the_formulas() {
        let draw = |name: &str, size: &[i64]| Stream::of(2).named(name).normal(size, 1.0);
        let (logits, worth) = (draw("logits", &[3, 7]), draw("worth", &[4, 3]));
        let ids = Tensor::from_slice(&[2_i64, 0, 6]);
        let leaf = logits.set_requires_grad(true);
        let numbers = numbers_of(&leaf.log_softmax(-1, Kind::Float), &ids, Asked::WithEntropy);
        (numbers * &worth).sum(Kind::Float).backward();
        let tail = |asked| Tail {
            hidden: Tensor::new(),
            ids: Tensor::new(),
            numbers: Tensor::new(),
            asked,
            tile: 3,
            logs: None,
            shared: None,
        };
        let logs = leaf.detach().log_softmax(-1, Kind::Float);
        let found = tail(Asked::WithEntropy).of_logits(logs, &ids, &worth);
        let found = found + worth.get(1).unsqueeze(1) / 7.0;
        assert!((found - leaf.grad()).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn a_token_of_odds_three_to_one() {
        let (logits, ids) = (Tensor::from_slice(&[3_f32.ln(), 0.0]), Tensor::from_slice(&[1_i64]));
        let logs = logits.view([1, 2]).log_softmax(-1, Kind::Float);
        let said = numbers_of(&logs, &ids, Asked::All);
        let close = |number: i64, by_hand: f64| {
            assert!((said.double_value(&[number, 0]) - by_hand).abs() < 1e-6);
        };
        let (won, lost) = (0.75_f64.ln(), 0.25_f64.ln());
        close(0, lost);
        assert_eq!(numbers_of(&logs, &ids, Asked::LogProbs).get(0), said.get(0));
        close(1, f64::midpoint(won, lost));
        close(2, 0.0);
        close(3, -(0.75 * won + 0.25 * lost));
    }
}
