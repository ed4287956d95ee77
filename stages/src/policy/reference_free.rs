//! Learning from preferences without a reference: what comes in, what comes out, and the training, of every kind that looks at a pair's
//! own log-probabilities. A kind says what a pair costs, and how much its chosen side is imitated besides.

use gradus_protocol::{
    Page,
    catalog::{Length, Port, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

use super::sequences::{placed, sequence_log_probs};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        batches,
        config::Head,
        decoder::Model,
        head,
        likelihood::learnt,
        pretrained::Pretrained,
        ranking::Ranking,
        stepper::Loss,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::{Pair, Prepared, pairs},
        tally::Fit,
        truncation::TooLong,
    },
    rules::{param, rule, same_context, within_context},
    stage::Stage,
};

/// How a policy is trained on pairs. Kinds flatten this into their own parameters.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct PairTraining {
    #[serde(flatten)]
    training: Training,
    /// Tokens that a text may have, prompt included; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to pairs with a longer text. Of cut texts nobody said which is better.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

ports!(Inputs {
    /// The model to be trained.
    policy: artifact::Model,
    /// Pairs to learn from.
    preferences: artifact::Preferences,
    /// Pairs to measure on how often the chosen side is the likelier one, after training, and the loss on the way as
    /// `evaluate_every` says.
    test: Option<artifact::Preferences>,
});
ports!(Outputs {
    /// The trained policy.
    model: Out<artifact::Model>,
    /// Loss, implicit rewards and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

/// What both sides of pairs are, all `[pairs]`: log p of the completions, and their tokens.
pub(crate) struct Sides {
    pub(crate) chosen: Tensor,
    pub(crate) rejected: Tensor,
    pub(crate) chosen_length: Tensor,
    pub(crate) rejected_length: Tensor,
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

    /// Whether completions are ranked by their mean per token and not by their sum.
    fn ranks_per_token(&self) -> bool;
}

/// What a kind says of itself that learns from pairs without a reference; all else is the same for each.
pub(crate) trait ReferenceFree {
    const KIND: &'static str;
    const REVISION: u32;
    const DOC: &'static str;
    type Params: DeserializeOwned + JsonSchema;

    /// What its own parameters must not say together.
    fn rules() -> Vec<Rule> {
        Vec::new()
    }

    fn parts(params: &Self::Params) -> (&PairTraining, Box<dyn PairLoss + '_>);
}

/// A kind that is [`ReferenceFree`].
pub(crate) struct Direct<K>(std::marker::PhantomData<K>);

impl<K: ReferenceFree> Stage for Direct<K> {
    const KIND: &'static str = K::KIND;
    const REVISION: u32 = K::REVISION;
    const DOC: &'static str = K::DOC;
    type Params = K::Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![rule(
            "on held-out rows the chosen completion may be the likelier one no more often than by chance (from \
             {test_accuracy_low} on)",
            [param("test_accuracy_low").below(0.5)],
        )]
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "policy"));
        rules.extend(K::rules());
        rules
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "policy");
    }

    fn rehearsal() -> serde_json::Value {
        Training::rehearsal()
    }

    fn length() -> Option<Length> {
        Some(Training::length())
    }

    fn run(
        params: K::Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let (how, loss) = K::parts(&params);
        let source = &inputs.policy.source;
        let policy = Pretrained::open("policy", source, Head::LanguageModel, context.device)?;
        let fit = Fit::new(&policy, how.max_length, how.too_long)?;
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            pairs(port, source, &policy.codec, fit, report)
        };
        let rows = read("preferences", &inputs.preferences.source)?;
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref().map(|test| read("test", &test.source)).transpose()?;
        context.tally("", &rows.tally);
        if let Some(test) = &test {
            context.tally("test_", &test.tally);
        }
        let of = |it: Prepared<Pair>| Pairs::new(loss.as_ref(), it.rows, it.numbers);
        let (objective, test) = (of(rows), test.map(of));
        let policy = policy.trainable();
        let order = context.stream("order");
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&policy.model, on, &how.training, order, context)?;
        if let Some(test) = test {
            let progress = |done, all| context.progress(done, all, "test completions", "");
            let ranking = test.ranking(&policy.model, progress)?;
            context.estimate("test_accuracy", &ranking.accuracy);
            context.summary("test_margin", ranking.margin);
        }
        policy.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

/// Pairs, and what they cost.
pub(crate) struct Pairs<'a> {
    loss: &'a dyn PairLoss,
    pairs: Vec<Pair>,
    /// Which row of the data each pair is.
    numbers: Vec<usize>,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(loss: &'a dyn PairLoss, pairs: Vec<Pair>, numbers: Vec<usize>) -> Self {
        Self { loss, pairs, numbers }
    }

    /// The chosen side with all tokens that something is to be made of.
    fn chosen(&self, row: usize) -> Example {
        let chosen = &self.pairs[row].chosen;
        match self.loss.imitation() {
            (weight, Imitated::All) if weight > 0.0 => Example::after_prompt(chosen.ids.clone(), 0),
            _ => chosen.clone(),
        }
    }

    /// How often the chosen side is the likelier one (ties count half), and by how much; `report` hears how many rows are done.
    fn ranking(
        &self,
        model: &Model,
        report: impl FnMut(usize, usize) -> Result<(), StageError>,
    ) -> Result<Ranking, StageError> {
        let _no_grad = tch::no_grad_guard();
        let rows: Vec<&Example> =
            self.pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        let found = batches::each_kept(
            &Page::blank(),
            |row| &*rows[row].ids,
            &lengths,
            report,
            |part| {
                let part: Vec<&Example> = part.iter().map(|row| rows[*row]).collect();
                let (sums, _) = sequence_log_probs(model, &part);
                Ok(Vec::<f64>::try_from(sums.to_kind(Kind::Double).to_device(Device::Cpu))?)
            },
        )?;
        let by = |row: usize| {
            let tokens = if self.loss.ranks_per_token() { rows[row].marked() } else { 1 };
            found[row] / tokens.max(1) as f64
        };
        let margins: Vec<f64> = (0..self.pairs.len()).map(|i| by(2 * i) - by(2 * i + 1)).collect();
        let prompts: Vec<&[u8]> = self.pairs.iter().map(|pair| pair.asked.bytes()).collect();
        Ok(Ranking::of(&margins, &prompts))
    }
}

impl Objective for Pairs<'_> {
    fn rows(&self) -> usize {
        self.pairs.len()
    }

    fn weight(&self, row: usize) -> f64 {
        let pair = &self.pairs[row];
        f64::from(pair.chosen.labels() > 0 && pair.rejected.labels() > 0)
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    fn tokens(&self, row: usize) -> usize {
        self.pairs[row].chosen.ids.len() + self.pairs[row].rejected.ids.len()
    }

    fn loss(&self, model: &Model, part: &[usize], all: &[usize]) -> Result<Loss, StageError> {
        let chosen: Vec<Example> = part.iter().map(|row| self.chosen(*row)).collect();
        let examples: Vec<&Example> =
            chosen.iter().chain(part.iter().map(|row| &self.pairs[*row].rejected)).collect();
        let completions: Vec<&Example> = (part.iter().map(|row| &self.pairs[*row].chosen))
            .chain(part.iter().map(|row| &self.pairs[*row].rejected))
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
        let sides = Sides { chosen: chosen_sums, rejected, chosen_length, rejected_length };
        let (losses, [better, worse]) = self.loss.of(&sides);
        let shown = |x: &Tensor| x.detach().sum(Kind::Float);
        let mut metrics = vec![
            ("rewards/chosen", shown(&better)),
            ("rewards/rejected", shown(&worse)),
            ("rewards/margins", shown(&(&better - &worse))),
            ("rewards/accuracies", shown(&better.gt_tensor(&worse).to_kind(Kind::Float))),
        ];
        let mut whole = losses.sum(Kind::Float);
        let (weight, _) = self.loss.imitation();
        if weight > 0.0 {
            // A mean over the tokens of the whole step, where the rest is a mean over its pairs.
            let pairs: f64 = all.iter().map(|row| self.weight(*row)).sum();
            let tokens: usize = all.iter().map(|row| self.chosen(*row).labels()).sum();
            let own = table.narrow(0, 0, table.size()[0] / 2);
            let nll = -own.sum(Kind::Float) * (pairs / tokens.max(1) as f64);
            metrics.push(("imitation_loss", nll.detach()));
            whole = whole + nll * weight;
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

        fn ranks_per_token(&self) -> bool {
            false
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
        Pairs { loss, pairs, numbers: vec![0, 1, 2] }
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
