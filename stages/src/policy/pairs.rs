//! Learning from pairs of completions, one of which is preferred: a loss of both sides' log-probabilities, with or without a
//! reference, and imitation of the chosen side besides.

use gradus_protocol::Page;
use tch::{Device, Kind, Tensor};

use super::{log_probs::LogProbs, losses::metrics, sequences::placed};
use crate::{
    error::StageError,
    nn::{
        batch::Example, decoder::Model, head, likelihood::learnt, ranking::Ranking, stepper::Loss,
        trainer::Objective,
    },
    prepare::examples::Pair,
};

/// What both sides of pairs are, all `[pairs]`: log p of the completions, and their tokens.
pub(crate) struct Sides {
    pub(crate) chosen: Tensor,
    pub(crate) rejected: Tensor,
    pub(crate) chosen_length: Tensor,
    pub(crate) rejected_length: Tensor,
    /// log p of both under a reference, where there is one.
    pub(crate) reference: Option<[Tensor; 2]>,
}

impl Sides {
    /// The same per token: `[chosen, rejected]`.
    pub(super) fn per_token(&self) -> [Tensor; 2] {
        [&self.chosen / &self.chosen_length, &self.rejected / &self.rejected_length]
    }
}

/// Which tokens of the chosen side are imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Imitated {
    Completion,
    /// With the prompt.
    All,
}

/// What a method makes of pairs.
pub(crate) trait PairLoss {
    /// The loss of every pair, and the implicit rewards of both sides.
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]);

    /// Weight of the mean over tokens of `−log p` of the chosen side, and which tokens those are.
    fn imitation(&self) -> (f64, Imitated);

    /// The implicit reward of a completion of so many tokens, from log p of it and of the reference, by which held-out pairs are
    /// ranked.
    fn reward(&self, log_prob: f64, reference: f64, tokens: f64) -> f64;
}

/// Pairs, and what they cost.
pub(crate) struct Pairs<'a> {
    loss: &'a dyn PairLoss,
    rows: Vec<Pair>,
    /// Which row of the data each pair is.
    numbers: Vec<usize>,
    /// What a reference thinks of both sides.
    reference: Option<Vec<[f32; 2]>>,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(loss: &'a dyn PairLoss, rows: Vec<Pair>, numbers: Vec<usize>) -> Self {
        Self { loss, rows, numbers, reference: None }
    }

    /// The same, held to what a reference thinks of the pairs.
    pub(crate) fn held_to(self, known: &LogProbs) -> Result<Self, StageError> {
        let reference = Some(known.of_pairs(&self.rows)?);
        Ok(Self { reference, ..self })
    }

    /// The chosen side with all tokens that something is to be made of.
    fn chosen(&self, row: usize) -> Example {
        let chosen = &self.rows[row].chosen;
        match self.loss.imitation() {
            (weight, Imitated::All) if weight > 0.0 => Example::after_prompt(chosen.ids.clone(), 0),
            _ => chosen.clone(),
        }
    }

    /// How often the implicit reward ranks pairs as labelled (ties count half), and its mean margin; `report` hears how many rows
    /// are done.
    pub(crate) fn ranking(
        &self,
        model: &Model,
        report: impl FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Ranking, StageError> {
        let _no_grad = tch::no_grad_guard();
        let mut found = LogProbs::default();
        found.add(model, self.rows.iter().flat_map(Pair::sides), &Page::blank(), report)?;
        let found = found.of_pairs(&self.rows)?;
        let margin = |(at, pair): (usize, &Pair)| {
            let reward = |side: usize| {
                let held = self.reference.as_ref().map_or(0.0, |all| all[at][side]);
                let tokens = pair.sides()[side].marked().max(1) as f64;
                self.loss.reward(found[at][side].into(), held.into(), tokens)
            };
            reward(0) - reward(1)
        };
        let margins: Vec<f64> = self.rows.iter().enumerate().map(margin).collect();
        let prompts: Vec<&[u8]> = self.rows.iter().map(|pair| pair.asked.bytes()).collect();
        Ok(Ranking::of(&margins, &prompts))
    }

    /// log p of both sides of the rows under the reference.
    fn held(&self, part: &[usize], device: Device) -> Option<[Tensor; 2]> {
        let known = self.reference.as_ref()?;
        Some([0, 1].map(|side| {
            let own: Vec<f32> = part.iter().map(|row| known[*row][side]).collect();
            Tensor::from_slice(&own).to_device(device)
        }))
    }
}

impl Objective for Pairs<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, row: usize) -> f64 {
        let pair = &self.rows[row];
        f64::from(pair.chosen.labels() > 0 && pair.rejected.labels() > 0)
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].chosen.ids.len() + self.rows[row].rejected.ids.len()
    }

    fn loss(&self, model: &Model, part: &[usize], all: &[usize]) -> Result<Loss, StageError> {
        let chosen: Vec<Example> = part.iter().map(|row| self.chosen(*row)).collect();
        let examples: Vec<&Example> =
            chosen.iter().chain(part.iter().map(|row| &self.rows[*row].rejected)).collect();
        let completions: Vec<&Example> = (part.iter().map(|row| &self.rows[*row].chosen))
            .chain(part.iter().map(|row| &self.rows[*row].rejected))
            .collect();
        let bins: Vec<&[Example]> = examples.iter().map(|row| std::slice::from_ref(*row)).collect();
        let (hidden, ids) = learnt(model, &bins);
        let (log_probs, tail) = head::log_probs(model, &hidden, &ids);
        let table = placed(&log_probs, &examples);
        let sum = |x: &Tensor| x.sum_dim_intlist(1, false, Kind::Float);
        let sums = sum(&(&table * ends(&examples, &completions, &table))).chunk(2, 0);
        let lengths: Vec<f32> = completions.iter().map(|row| row.marked() as f32).collect();
        let lengths = Tensor::from_slice(&lengths).to_device(model.device()).chunk(2, 0);
        let [chosen_sums, rejected] = [0, 1].map(|i| sums[i].shallow_clone());
        let [chosen_length, rejected_length] = [0, 1].map(|i| lengths[i].shallow_clone());
        let reference = self.held(part, model.device());
        let sides =
            Sides { chosen: chosen_sums, rejected, chosen_length, rejected_length, reference };
        let (losses, rewards) = self.loss.of(&sides);
        let mut metrics = metrics(&rewards);
        let mut whole = losses.sum(Kind::Float);
        let (weight, _) = self.loss.imitation();
        if weight > 0.0 {
            // A mean over the tokens of the whole step, where the rest is a mean over its pairs.
            let pairs: f64 = all.iter().map(|row| self.weight(*row)).sum();
            let tokens: usize = all.iter().map(|row| self.chosen(*row).labels()).sum();
            let own = table.narrow(0, 0, table.size()[0] / 2);
            let nll = -own.sum(Kind::Float) * (pairs / tokens.max(1) as f64);
            metrics.push(("imitation_loss", nll.detach()));
            whole += nll * weight;
        }
        Ok(Loss { sum: whole, metrics, tail })
    }
}

/// 1 at the places of `examples` that are of the completions, which are their ends, as wide as `table`.
fn ends(examples: &[&Example], completions: &[&Example], table: &Tensor) -> Tensor {
    let width = usize::try_from(table.size()[1]).unwrap_or(0);
    let mut mask = Vec::with_capacity(examples.len() * width);
    for (example, completion) in examples.iter().zip(completions) {
        let (all, own) = (example.labels(), completion.labels());
        mask.extend((0..width).map(|at| f32::from(u8::from(at + own >= all && at < all))));
    }
    Tensor::from_slice(&mask).view_as(table).to_device(table.device())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        nn::{config::tests::tiny, stream::Stream},
        prepare::token_rows::Asked,
    };

    /// Pairs of one token each, of `ln` odds by hand.
    pub(crate) fn sides(chosen: [f32; 2], rejected: [f32; 2]) -> Sides {
        let of = |x: f32| Tensor::from_slice(&[x]);
        Sides {
            chosen: of(chosen[0]),
            rejected: of(rejected[0]),
            chosen_length: of(chosen[1]),
            rejected_length: of(rejected[1]),
            reference: None,
        }
    }

    struct Both(Imitated);

    impl PairLoss for Both {
        fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
            let both = [&sides.chosen, &sides.rejected].map(Tensor::shallow_clone);
            (&sides.rejected - &sides.chosen, both)
        }

        fn imitation(&self) -> (f64, Imitated) {
            (0.5, self.0)
        }

        fn reward(&self, log_prob: f64, _: f64, _: f64) -> f64 {
            log_prob
        }
    }

    fn pairs(loss: &dyn PairLoss) -> Pairs<'_> {
        let pair = |chosen: &[u32], rejected: &[u32], prompt: usize| Pair {
            chosen: Example::after_prompt(chosen.to_vec(), prompt),
            rejected: Example::after_prompt(rejected.to_vec(), prompt),
            asked: Asked::of(""),
        };
        let pairs = vec![
            pair(&[2, 3, 4, 5], &[2, 6], 1),
            pair(&[7, 8, 9], &[7, 8, 2, 3, 4], 2),
            pair(&[3, 3, 4], &[3, 5], 1),
        ];
        Pairs::new(loss, pairs, vec![0, 1, 2])
    }

    #[test]
    fn whole_steps_and_their_parts_cost_the_same_and_imitate_what_they_say() {
        let model = Model::fresh(tiny(), Stream::of(3), Device::Cpu).trainable();
        // A model without opinions: every token costs ln 16.
        let _ = tch::no_grad(|| model.parameters["lm_head.weight"].shallow_clone().zero_());
        let token = 16_f64.ln();
        for (imitated, tokens) in [(Imitated::Completion, 6.0), (Imitated::All, 7.0)] {
            let loss = Both(imitated);
            let pairs = pairs(&loss);
            let of = |part: &[usize]| {
                pairs.loss(&model, part, &[0, 1, 2]).unwrap().sum.double_value(&[])
            };
            // Chosen 3, 1 and 2 tokens, rejected 1, 3 and 1: (3 + 1 + 2 − 1 − 3 − 1) ln 16, and ½ ln 16 for each of three pairs.
            let by_hand = (6.0 - 5.0) * token + 0.5 * token * 3.0;
            assert!((of(&[0, 1, 2]) - by_hand).abs() < 1e-4, "{imitated:?}");
            assert!((of(&[0]) + of(&[1, 2]) - by_hand).abs() < 1e-4, "{imitated:?}");
            let chosen: usize = (0..3).map(|row| pairs.chosen(row).labels()).sum();
            assert!((chosen as f64 - tokens).abs() < 1e-9);
        }
    }
}
