//! Log-probabilities at all places at once, as the fixtures have them.
//!
//! `[b, t]` is about token t+1 given tokens 0..=t.

use tch::{Kind, Tensor};

use crate::nn::{batch::Batch, decoder::Model, logprob::of_tokens};

/// log p of each next token: [rows, width − 1].
pub(crate) fn next_token(model: &Model, batch: &Batch) -> Tensor {
    let hidden = model.hidden(batch).narrow(1, 0, batch.width() - 1);
    of_tokens(&model.logits(&hidden), &batch.ids.narrow(1, 1, batch.width() - 1))
}

/// −Σ p log p in nats.
pub(crate) fn entropy(logits: &Tensor) -> Tensor {
    let logs = logits.log_softmax(-1, Kind::Float);
    -(logs.exp() * logs).sum_dim_intlist(-1, false, Kind::Float)
}

/// Σ over the tokens in `mask`: `[rows]`.
pub(crate) fn sum(log_probs: &Tensor, mask: &Tensor) -> Tensor {
    (log_probs * mask).sum_dim_intlist(1, false, Kind::Float)
}
