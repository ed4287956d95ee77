//! The loss of language modelling, for `train.pretrain` and `train.sft` alike.
//!
//! A row of the objective is a bin: examples laid end to end that cannot see each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    batch::{Batch, Example, targets},
    decoder::Model,
    logprob,
    trainer::{Loss, Objective},
};
use crate::error::StageError;

/// What a token costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenLoss {
    /// Negative log-likelihood.
    #[default]
    Nll,
    /// The same times the token's own probability, so that tokens far from the model pull less (dynamic
    /// fine-tuning).
    Dft,
}

/// Examples to be made likely.
pub(crate) struct Likelihood {
    pub(crate) bins: Vec<Vec<Example>>,
    pub(crate) token_loss: TokenLoss,
    /// Share of the target spread evenly over the vocabulary.
    pub(crate) smoothing: f64,
}

impl Likelihood {
    /// One example per row, without smoothing.
    pub(crate) fn plain(examples: Vec<Example>) -> Self {
        let bins = examples.into_iter().map(|example| vec![example]).collect();
        Self { bins, token_loss: TokenLoss::Nll, smoothing: 0.0 }
    }
}

impl Objective for Likelihood {
    fn rows(&self) -> usize {
        self.bins.len()
    }

    fn weight(&self, row: usize) -> f64 {
        self.bins[row].iter().map(Example::labels).sum::<usize>() as f64
    }

    fn tokens(&self, row: usize) -> usize {
        self.bins[row].iter().map(|example| example.ids.len()).sum()
    }

    fn loss(&self, model: &Model, rows: &[usize]) -> Result<Loss, StageError> {
        let bins: Vec<&[Example]> = rows.iter().map(|row| self.bins[*row].as_slice()).collect();
        let (logits, ids) = predictions(model, &bins);
        let correct = logits.argmax(1, false).eq_tensor(&ids).sum(Kind::Float);
        let entropy = tch::no_grad(|| logprob::entropy(&logits).sum(Kind::Float));
        Ok(Loss {
            sum: token_losses(&logits, &ids, self.token_loss, self.smoothing).sum(Kind::Float),
            metrics: vec![("accuracy", correct), ("entropy", entropy)],
        })
    }
}

/// The logits at the places that are learnt, and the tokens that should follow: [labels, vocabulary] and
/// `[labels]`. Other places cost no output head.
pub(crate) fn predictions(model: &Model, bins: &[&[Example]]) -> (Tensor, Tensor) {
    let batch = Batch::packed(bins, model.pad(), model.device());
    let (places, ids) = targets(bins, model.device());
    let hidden = model.hidden(&batch).flatten(0, 1).index_select(0, &places);
    (model.logits(&hidden), ids)
}

/// `−(1 − ε) log p(y) − ε mean_v log p(v)` (Szegedy et al. 2016, section 7), or `−sg(p(y)) log p(y)` (Wu et
/// al. 2025, eq. 9): `[labels]`.
pub(crate) fn token_losses(
    logits: &Tensor,
    ids: &Tensor,
    kind: TokenLoss,
    smoothing: f64,
) -> Tensor {
    let logs = logits.log_softmax(-1, Kind::Float);
    let nll = -logs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1);
    let nll = match kind {
        TokenLoss::Nll => nll,
        TokenLoss::Dft => (-&nll).exp().detach() * nll,
    };
    if smoothing > 0.0 {
        nll * (1.0 - smoothing) - logs.mean_dim(-1, false, Kind::Float) * smoothing
    } else {
        nll
    }
}

/// exp of the mean negative log-likelihood per learnt token.
pub(crate) fn perplexity(model: &Model, examples: &[Example]) -> Result<f64, StageError> {
    let _no_grad = tch::no_grad_guard();
    let (mut sum, mut count) = (0.0, 0);
    for rows in examples.chunks(64) {
        let bins: Vec<&[Example]> = rows.iter().map(std::slice::from_ref).collect();
        let (logits, ids) = predictions(model, &bins);
        let losses = token_losses(&logits, &ids, TokenLoss::Nll, 0.0);
        sum += f64::try_from(losses.f_sum(Kind::Double)?)?;
        count += losses.numel();
    }
    Ok((sum / count.max(1) as f64).exp())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{
        config::tests::tiny,
        trainer::{
            tests::{Silent, training},
            train,
        },
    };

    fn objective() -> Likelihood {
        let row =
            |i: u32| Example::after_prompt((0..4 + i % 5).map(|j| 2 + (i + j) % 9).collect(), 1);
        Likelihood::plain((0..16).map(row).collect())
    }

    fn trained(batch: usize, micro_batch: usize) -> (Vec<f64>, Tensor) {
        let model = Model::fresh(tiny(), 1, Device::Cpu).trainable();
        let training = training(batch, micro_batch);
        let curve = train(&model, &objective(), &training, 9, &mut Silent).unwrap();
        let losses = curve.iter().map(|point| point.loss).collect();
        (losses, model.parameters["model.embed_tokens.weight"].detach())
    }

    #[test]
    fn one_batch_of_eight_steps_like_eight_of_one() {
        let (whole, parts) = (trained(8, 8), trained(8, 1));
        assert!(whole.0.iter().zip(&parts.0).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!((whole.1 - parts.1).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_and_less_loss() {
        let (one, other) = (trained(4, 4), trained(4, 4));
        assert_eq!(one.1, other.1);
        assert!(one.0[one.0.len() - 1] < one.0[0]);
    }

    #[test]
    fn a_token_of_odds_three_to_one_costs_what_its_loss_says() {
        let logits = Tensor::from_slice(&[3_f32.ln(), 0.0]).view([1, 2]);
        let found = |kind, smoothing| {
            token_losses(&logits, &Tensor::from_slice(&[0_i64]), kind, smoothing).double_value(&[0])
        };
        let (won, lost) = (-(0.75_f64.ln()), -(0.25_f64.ln()));
        assert!((found(TokenLoss::Nll, 0.0) - won).abs() < 1e-6);
        assert!((found(TokenLoss::Nll, 0.2) - (0.8 * won + 0.2 * (won + lost) / 2.0)).abs() < 1e-6);
        assert!((found(TokenLoss::Dft, 0.0) - 0.75 * won).abs() < 1e-6);
    }

    #[test]
    fn a_fair_coin_has_perplexity_two() {
        let logits = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu));
        let ids = Tensor::from_slice(&[0_i64, 1, 0]);
        let losses = token_losses(&logits, &ids, TokenLoss::Nll, 0.1);
        assert!((losses.mean(Kind::Float).exp().double_value(&[]) - 2.0).abs() < 1e-6);
        // ½ · ln 2
        let losses = token_losses(&logits, &ids, TokenLoss::Dft, 0.0);
        assert!((losses.double_value(&[0]) - 0.5 * 2_f64.ln()).abs() < 1e-6);
    }
}
