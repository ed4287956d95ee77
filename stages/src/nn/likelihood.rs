//! The loss of language modelling, for `train.pretrain` and `train.sft` alike.
//!
//! A row of the objective is a bin: examples laid end to end that cannot see each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    batch::{Batch, Example, targets},
    batches,
    decoder::Model,
    head::{self, Said},
    stepper::Loss,
    trainer::Objective,
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
    /// Which row of the data each bin is.
    pub(crate) numbers: Vec<usize>,
    pub(crate) token_loss: TokenLoss,
    /// Share of the target spread evenly over the vocabulary.
    pub(crate) smoothing: f64,
}

impl Likelihood {
    /// One example per row, without smoothing.
    pub(crate) fn plain(examples: Vec<Example>) -> Self {
        let numbers = (0..examples.len()).collect();
        let bins = examples.into_iter().map(|example| vec![example]).collect();
        Self { bins, numbers, token_loss: TokenLoss::Nll, smoothing: 0.0 }
    }
}

impl Objective for Likelihood {
    fn rows(&self) -> usize {
        self.bins.len()
    }

    fn weight(&self, row: usize) -> f64 {
        self.bins[row].iter().map(Example::labels).sum::<usize>() as f64
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    fn tokens(&self, row: usize) -> usize {
        self.bins[row].iter().map(|example| example.ids.len()).sum()
    }

    fn loss(&self, model: &Model, rows: &[usize], _: &[usize]) -> Result<Loss, StageError> {
        let bins: Vec<&[Example]> = rows.iter().map(|row| self.bins[*row].as_slice()).collect();
        let (hidden, ids) = learnt(model, &bins);
        let (said, tail) = head::said(model, &hidden, &ids);
        let sum = |x: &Tensor| x.sum(Kind::Float);
        Ok(Loss {
            sum: sum(&token_losses(&said, self.token_loss, self.smoothing)),
            metrics: vec![("accuracy", sum(&said.correct)), ("entropy", sum(&said.entropy))],
            tail,
        })
    }

    /// Every token equally likely: ln of the vocabulary.
    fn loss_of_a_guess(&self, model: &Model) -> Option<f64> {
        (self.token_loss == TokenLoss::Nll).then(|| (model.config.vocab_size as f64).ln())
    }
}

/// The hidden states at the places that are learnt, and the tokens that should follow: [labels, hidden] and
/// `[labels]`. Other places cost no output head.
pub(crate) fn learnt(model: &Model, bins: &[&[Example]]) -> (Tensor, Tensor) {
    let (places, ids) = targets(bins, model.device());
    if bins.iter().all(|bin| bin.len() == 1) {
        let rows: Vec<&[u32]> = bins.iter().map(|bin| bin[0].as_ref()).collect();
        let places = bins.iter().enumerate();
        let places = places.flat_map(|(row, bin)| bin[0].places().map(move |at| (row, at)));
        return (model.hidden_at(&rows, places), ids);
    }
    let batch = Batch::packed(bins, model.pad(), model.device());
    (model.hidden(&batch).flatten(0, 1).index_select(0, &places), ids)
}

/// `−(1 − ε) log p(y) − ε mean_v log p(v)` (Szegedy et al. 2016, section 7), or `−sg(p(y)) log p(y)` (Wu et
/// al. 2025, eq. 9): `[labels]`.
pub(crate) fn token_losses(said: &Said, kind: TokenLoss, smoothing: f64) -> Tensor {
    let nll = -&said.log_probs;
    let nll = match kind {
        TokenLoss::Nll => nll,
        TokenLoss::Dft => (-&nll).exp().detach() * nll,
    };
    if smoothing > 0.0 { nll * (1.0 - smoothing) - &said.mean_logs * smoothing } else { nll }
}

/// How likely held-out examples are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldOut {
    /// Mean negative log-likelihood per learnt token, in nats.
    pub(crate) loss: f64,
    /// Tokens that the mean is over.
    pub(crate) tokens: usize,
}

/// The loss of examples that were not learnt from; `report` hears how many are done.
pub(crate) fn held_out(
    model: &Model,
    examples: &[Example],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<HeldOut, StageError> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
    let losses = batches::each(&lengths, report, |rows| {
        let bins: Vec<&[Example]> =
            rows.iter().map(|row| std::slice::from_ref(&examples[*row])).collect();
        let (hidden, ids) = learnt(model, &bins);
        let (log_probs, _) = head::log_probs(model, &hidden, &ids);
        let nll = Vec::<f64>::try_from((-log_probs).to_kind(Kind::Double).to_device(Device::Cpu))?;
        Ok(batches::sums(&nll, rows.iter().map(|row| examples[*row].labels())))
    })?;
    let tokens = examples.iter().map(Example::labels).sum();
    Ok(HeldOut { loss: losses.iter().sum::<f64>() / (tokens as f64).max(1.0), tokens })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{
        config::tests::tiny,
        stream::Stream,
        trainer::{
            tests::{Silent, training},
            train,
        },
    };

    fn objective() -> Likelihood {
        let row = |i: u32| {
            Example::after_prompt((0..4 + i % 5).map(|j| 2 + (i + j) % 9).collect::<Vec<_>>(), 1)
        };
        Likelihood::plain((0..16).map(row).collect())
    }

    fn trained(batch: usize, micro_batch: usize) -> (Vec<f64>, Tensor) {
        let model = Model::fresh(tiny(), Stream::of(1), Device::Cpu).trainable();
        let training = training(batch, micro_batch);
        let found =
            train(&model, (&objective(), None), &training, Stream::of(9), &mut Silent).unwrap();
        let losses = found.curve.iter().map(|point| point.loss).collect();
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
        let (won, lost) = (-(0.75_f64.ln()), -(0.25_f64.ln()));
        let one = |x: f64| Tensor::from_slice(&[x]);
        let said = Said {
            log_probs: one(-won),
            mean_logs: one(-f64::midpoint(won, lost)),
            correct: one(1.0),
            entropy: one(0.0),
        };
        let found = |kind, smoothing| token_losses(&said, kind, smoothing).double_value(&[0]);
        assert!((found(TokenLoss::Nll, 0.0) - won).abs() < 1e-6);
        assert!((found(TokenLoss::Nll, 0.2) - (0.8 * won + 0.2 * (won + lost) / 2.0)).abs() < 1e-6);
        assert!((found(TokenLoss::Dft, 0.0) - 0.75 * won).abs() < 1e-6);
    }

    #[test]
    fn a_model_without_opinions_loses_ln_of_its_vocabulary() {
        let mut model = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().zero_();
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let found = held_out(&model, &rows, |_, _| Ok(())).unwrap();
        assert!(found.tokens == 4 && (found.loss - 16_f64.ln()).abs() < 1e-5);
        let guess = Likelihood::plain(rows.to_vec()).loss_of_a_guess(&model);
        assert!((guess.unwrap() - found.loss).abs() < 1e-5);
    }
}
