//! `policy.kto`: Kahneman-Tversky optimisation (Ethayarajh et al. 2024): of each completion one need only know whether it is
//! desirable.
//!
//! What a completion gains is valued relative to a point that divides gains from losses, `z`: the divergence of the policy from its
//! reference, estimated on completions of other prompts.

use std::cell::Cell;

use gradus_protocol::{
    Source,
    catalog::{Length, Port, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::{log_probs::LogProbs, sequences::sequence_log_probs};
use crate::{
    artifact::{self, dataset::Format, dataset_folder::Reader, digest::digest},
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        decoder::Model,
        head::Tail,
        pretrained::Pretrained,
        stepper::Loss,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::{Prepared, completions, pairs},
        labels::labels,
        tally::Fit,
        truncation::TooLong,
    },
    rules::{param, rule, same_context, within_context},
    stage::Stage,
};

/// Kahneman-Tversky optimisation.
pub(crate) struct Kto;

/// How a log-ratio becomes a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KtoLoss {
    /// Relative to the divergence from the reference.
    #[default]
    Kto,
    /// Relative to nothing.
    ApoZeroUnpaired,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// How strongly the policy is held to the reference: more keeps it closer.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    beta: f64,
    /// How a log-ratio becomes a loss.
    #[serde(default)]
    loss: KtoLoss,
    /// What desirable completions count.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    desirable_weight: f64,
    /// What undesirable ones count. Where one sort is rarer, let its weight times its number be about as large as the other's.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    undesirable_weight: f64,
    /// The column that says whether a completion is desirable: true or false, or a number that is held against `threshold`.
    #[serde(default = "label")]
    label: String,
    /// Of numbers: above it a completion is desirable.
    #[serde(default)]
    threshold: f64,
    /// Tokens that a text may have, prompt included; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to rows with a longer text.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

fn tenth() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}
fn label() -> String {
    "label".to_owned()
}

ports!(Inputs {
    /// The model to be trained.
    policy: artifact::Model,
    /// What the policy is held to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// Completions with a column `label`; of preferences every chosen side is desirable, and every rejected one is not.
    feedback: artifact::Feedback,
    /// The same to measure the loss on, on the way as `evaluate_every` says.
    test: Option<artifact::Feedback>,
});
ports!(Outputs {
    /// The trained policy.
    model: Out<artifact::Model>,
    /// Loss, implicit rewards of both sorts and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for Kto {
    const KIND: &'static str = "policy.kto";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Train a policy on completions of which one knows whether they are desirable (KTO).

There are no pairs: a row has a completion and a `label` (Ethayarajh et al. 2024). What divides gains from losses is the divergence \
from the reference over a whole step, estimated on each prompt with the completion of the row before it. Rows with a text longer \
than `max_length` are dropped, or cut as `too_long` says, and counted.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![rule(
            "what desirable completions count in all is {balance} times what the others do: between 1 and 4/3 is usual; set \
             `desirable_weight` or `undesirable_weight`",
            [param("balance").above(3)],
        )]
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "policy"));
        rules
    }

    fn decided(outputs: &mut [Port]) {
        same_context(outputs, "policy");
    }

    fn rehearsal() -> Value {
        Training::rehearsal()
    }

    fn length() -> Option<Length> {
        Some(Training::length())
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let open =
            |role, source| Pretrained::open(role, source, Head::LanguageModel, context.device);
        let policy = open("policy", &inputs.policy.source)?;
        let held = inputs.reference.as_ref().map_or(&inputs.policy.source, |it| &it.source);
        let other =
            inputs.reference.as_ref().map(|it| open("reference", &it.source)).transpose()?;
        if let Some(reference) = &other {
            reference.same_tokens(&policy)?;
            reference.bears(fit(&policy, &params)?.tokens, "completions with their prompts")?;
        }
        let rows = labelled("feedback", &inputs.feedback.source, &policy, &params, context)?;
        // Read before training, which must not be lost to a mistake in them.
        let test = inputs.test.as_ref();
        let test = test.map(|it| labelled("test", &it.source, &policy, &params, context));
        let test = test.transpose()?;
        let desirable = rows.iter().filter(|row| row.desirable).count() as f64;
        let others = rows.len() as f64 - desirable;
        context.summary("desirable", desirable);
        context.summary("undesirable", others);
        let (gains, losses) =
            (desirable * params.desirable_weight, others * params.undesirable_weight);
        if losses > 0.0 {
            context.summary("balance", gains / losses);
        }
        let page = context.page("log_prob", 2, &digest(held)?);
        let reference = &other.as_ref().unwrap_or(&policy).model;
        let mut known = LogProbs::default();
        for rows in [Some(&rows), test.as_ref()].into_iter().flatten() {
            let rows = rows.iter().flat_map(|row| [&row.text, &row.elsewhere]);
            let report = |done, all| context.rows(done, all, "reference completions");
            known.add(reference, rows, &page, report)?;
        }
        let settings = params.settings();
        let objective = Labelled::new(settings, rows, &known)?;
        let test = test.map(|rows| Labelled::new(settings, rows, &known)).transpose()?;
        let policy = policy.trainable();
        let order = context.stream("order");
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&policy.model, on, &params.training, order, context)?;
        policy.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

impl Params {
    fn settings(&self) -> KtoSettings {
        KtoSettings {
            loss: self.loss,
            beta: self.beta,
            desirable: self.desirable_weight,
            undesirable: self.undesirable_weight,
        }
    }
}

/// A completion of which one knows whether it is desirable.
struct Row {
    text: Example,
    /// The prompt with the completion of another row.
    elsewhere: Example,
    desirable: bool,
    /// Which row of the data it is.
    number: usize,
}

fn fit(policy: &Pretrained, params: &Params) -> Result<Fit, StageError> {
    Fit::new(policy, params.max_length, params.too_long)
}

/// The rows that came in through `port`.
fn labelled(
    port: &'static str,
    source: &Source,
    policy: &Pretrained,
    params: &Params,
    context: &mut Context,
) -> Result<Vec<Row>, StageError> {
    let fit = fit(policy, params)?;
    let prefix = if port == "test" { "test_" } else { "" };
    let mut found = Vec::new();
    let in_pairs = Reader::open(source)?.format() == Format::Preference;
    let report = &mut |done, all| context.progress(done, all, "rows read", "");
    let tally = if in_pairs {
        let Prepared { rows, numbers, tally } = pairs(port, source, &policy.codec, fit, report)?;
        for (pair, number) in rows.into_iter().zip(numbers) {
            found.push((pair.chosen, true, 2 * number));
            found.push((pair.rejected, false, 2 * number + 1));
        }
        tally
    } else {
        let Prepared { rows, numbers, tally } =
            completions(port, source, &policy.codec, fit, true, report)?;
        let labels = labels(port, source, &params.label)?;
        for (row, number) in rows.into_iter().zip(numbers) {
            found.push((row, labels[number] > params.threshold, number));
        }
        tally
    };
    context.tally(prefix, &tally);
    let texts: Vec<Example> = found.iter().map(|(text, ..)| text.clone()).collect();
    let elsewhere = (0..texts.len()).map(|at| {
        let before = &texts[(at + texts.len() - 1) % texts.len()];
        mismatched(&texts[at], before, fit.tokens)
    });
    let rows = found.into_iter().zip(elsewhere);
    let row = |((text, desirable, number), elsewhere)| Row { text, elsewhere, desirable, number };
    Ok(rows.map(row).collect())
}

/// The prompt of one row with the completion of another, cut where it is too long.
fn mismatched(prompt: &Example, completion: &Example, longest: usize) -> Example {
    let (given, _) = prompt.ids.split_at(prompt.ids.len() - prompt.marked());
    let (_, said) = completion.ids.split_at(completion.ids.len() - completion.marked());
    let mut ids = [given, said].concat();
    ids.truncate(longest.max(given.len() + 1));
    Example::after_prompt(ids, given.len())
}

/// Which loss, and its constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KtoSettings {
    pub(crate) loss: KtoLoss,
    pub(crate) beta: f64,
    pub(crate) desirable: f64,
    pub(crate) undesirable: f64,
}

impl KtoSettings {
    /// Of log-ratios r, with `desirable` 1 or 0: `λ_D (1 − σ(β(r − z)))` of what is desirable, `λ_U (1 − σ(β(z − r)))` of what is
    /// not (Ethayarajh et al. 2024); of `apo_zero_unpaired` z is 0. All `[rows]`.
    pub(crate) fn losses(&self, ratios: &Tensor, desirable: &Tensor, z: f64) -> Tensor {
        let z = if self.loss == KtoLoss::Kto { z } else { 0.0 };
        let gain = (ratios - z) * self.beta;
        let desired = (-&gain).sigmoid() * self.desirable;
        let undesired = gain.sigmoid() * self.undesirable;
        desired * desirable - undesired * (desirable - 1.0)
    }
}

/// Labelled completions with what the reference thinks of them.
struct Labelled {
    settings: KtoSettings,
    rows: Vec<Row>,
    /// log p of each row under the reference, and of its prompt with another completion.
    reference: Vec<[f32; 2]>,
    /// The divergence over the step under way.
    z: Cell<f64>,
}

impl Labelled {
    fn new(settings: KtoSettings, rows: Vec<Row>, known: &LogProbs) -> Result<Self, StageError> {
        let all = |row: &Row| Some([known.of(&row.text)?, known.of(&row.elsewhere)?]);
        let reference: Option<Vec<_>> = rows.iter().map(all).collect();
        let reference = reference
            .ok_or_else(|| StageError::refused("the reference was not asked about every row"))?;
        Ok(Self { settings, rows, reference, z: Cell::new(0.0) })
    }

    /// log p under the policy less that under the reference, of the rows or of their prompts with other completions.
    fn ratios(&self, model: &Model, rows: &[usize], elsewhere: bool) -> (Tensor, Option<Tail>) {
        let text = |row: &usize| {
            let row = &self.rows[*row];
            if elsewhere { &row.elsewhere } else { &row.text }
        };
        let texts: Vec<&Example> = rows.iter().map(text).collect();
        let (log_probs, tail) = sequence_log_probs(model, &texts);
        let known: Vec<f32> =
            rows.iter().map(|row| self.reference[*row][usize::from(elsewhere)]).collect();
        (log_probs - Tensor::from_slice(&known).to_device(model.device()), tail)
    }

    /// `max(0, mean of log π/π_ref)` over prompts with completions of others.
    fn divergence(&self, model: &Model, all: &[usize], rows: usize) -> Result<f64, StageError> {
        let _no_grad = tch::no_grad_guard();
        let mut sum = 0.0;
        for part in all.chunks(rows.max(1)) {
            sum += self.ratios(model, part, true).0.sum(Kind::Double).f_double_value(&[])?;
        }
        Ok((sum / all.len().max(1) as f64).max(0.0))
    }
}

impl Objective for Labelled {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, row: usize) -> f64 {
        f64::from(self.rows[row].text.labels() > 0)
    }

    fn number(&self, row: usize) -> usize {
        self.rows[row].number
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].text.ids.len()
    }

    fn loss(&self, model: &Model, part: &[usize], all: &[usize]) -> Result<Loss, StageError> {
        if self.settings.loss == KtoLoss::Kto && part.first() == all.first() {
            self.z.set(self.divergence(model, all, part.len())?);
        }
        let (ratios, tail) = self.ratios(model, part, false);
        let desirable: Vec<f32> =
            part.iter().map(|row| f32::from(u8::from(self.rows[*row].desirable))).collect();
        let desirable = Tensor::from_slice(&desirable).to_device(model.device());
        let losses = self.settings.losses(&ratios, &desirable, self.z.get());
        // Of either sort the mean over its own rows, so that both can be read whatever their shares are in a step.
        let rewards = (ratios.detach() * self.settings.beta, desirable);
        let of = |sort: bool| {
            let count = all.iter().filter(|row| self.rows[**row].desirable == sort).count();
            let mask = if sort { rewards.1.shallow_clone() } else { -&rewards.1 + 1.0 };
            (&rewards.0 * mask).sum(Kind::Float) * (all.len() as f64 / count.max(1) as f64)
        };
        let kl = Tensor::from(self.z.get() * part.len() as f64);
        Ok(Loss {
            sum: losses.sum(Kind::Float),
            metrics: vec![
                ("rewards/desirable", of(true)),
                ("rewards/undesirable", of(false)),
                ("kl", kl),
            ],
            tail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_valued_relative_to_the_divergence() {
        // β = ½ and z = 1: of r = 1 + 2 ln 3 the odds are three to one, of r = 1 even.
        let of = |loss: KtoLoss| {
            let settings = KtoSettings { loss, beta: 0.5, desirable: 2.0, undesirable: 3.0 };
            let ratios = Tensor::from_slice(&[1.0 + 2.0 * 3_f64.ln(), 1.0, 1.0 + 2.0 * 3_f64.ln()]);
            let losses = settings.losses(&ratios, &Tensor::from_slice(&[1.0, 1.0, 0.0]), 1.0);
            Vec::<f64>::try_from(losses).unwrap()
        };
        let close = |found: &[f64], by_hand: &[f64]| {
            assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        close(&of(KtoLoss::Kto), &[2.0 * 0.25, 2.0 * 0.5, 3.0 * 0.75]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let gain = 0.5 + 3_f64.ln();
        let by_hand = [2.0 * sigmoid(-gain), 2.0 * sigmoid(-0.5), 3.0 * sigmoid(gain)];
        close(&of(KtoLoss::ApoZeroUnpaired), &by_hand);
    }

    #[test]
    fn a_prompt_gets_the_completion_of_another_row() {
        let row = |ids: &[u32], prompt: usize| Example::after_prompt(ids.to_vec(), prompt);
        let found = mismatched(&row(&[1, 2, 3], 2), &row(&[4, 5, 6, 7], 1), 9);
        assert_eq!(found, row(&[1, 2, 5, 6, 7], 2));
        // It keeps a token of it, however little fits.
        assert_eq!(mismatched(&row(&[1, 2, 3], 2), &row(&[4, 5, 6], 1), 2), row(&[1, 2, 5], 2));
    }
}
