//! `policy.dpo`: direct preference optimisation (Rafailov et al. 2023, eq. 7) and its relatives.
//!
//! Widens the gap between chosen and rejected completions, measured against a frozen reference, so no
//! reward model is needed. The reference's log-probabilities are computed before the first step.

use gradus_protocol::catalog::Length;
use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::{
    artifact::{self, tokenizer::Codec},
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        curve::write_curve,
        decoder::Model,
        model_folder::{copy_tokenizer, load, save},
        ranking::Ranking,
        trainer::{Loss, Objective, Training, train},
    },
    policy::{
        losses::{DpoLoss, DpoSettings, Ratios, metrics},
        pairs::{Pair, read_pairs, reference_log_probs, sequence_log_probs, sequence_log_probs_of},
    },
    port::{Out, files_of, ports},
    prepare::examples::dropped,
    stage::Stage,
};

/// Direct preference optimisation.
pub(crate) struct TrainDpo;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// How strongly the policy is held to the reference: more keeps it closer.
    #[serde(default = "default_beta")]
    #[schemars(range(min = 0.0))]
    beta: f64,
    /// How the log-ratios of a pair become a loss.
    #[serde(default)]
    loss: DpoLoss,
    /// Share of labels taken to be flipped; more keeps the policy from growing sure. For `sigmoid`,
    /// `sigmoid_norm`, `robust` and `exo_pair`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    label_smoothing: f64,
    /// Tokens of prompt and completion that are kept, from the start; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
}

fn default_beta() -> f64 {
    0.1
}

ports!(Inputs {
    /// The model to be trained.
    policy: artifact::Model,
    /// What the policy is held to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// Pairs to learn from.
    preferences: artifact::Preferences,
    /// Pairs to measure the implicit reward's accuracy on, after training.
    test: Option<artifact::Preferences>,
});
ports!(Outputs {
    /// The trained policy.
    model: Out<artifact::Model>,
    /// Loss, implicit rewards and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for TrainDpo {
    const KIND: &'static str = "policy.dpo";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Train a policy on preferences directly, without a reward model.

Direct preference optimisation (Rafailov et al. 2023) and its relatives. Pairs whose prompt fills \
`max_length` are dropped and counted.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn length() -> Option<Length> {
        Some(Training::length())
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let files = files_of(&inputs.policy.source)?;
        let codec = Codec::load(&inputs.policy.source)?;
        let policy = load(files, context.device)?.expecting(Head::LanguageModel)?;
        let reference = match &inputs.reference {
            Some(reference) => load(files_of(&reference.source)?, context.device)?,
            None => policy.frozen(),
        };
        let reference = reference.expecting(Head::LanguageModel)?.same_vocabulary(&policy)?;
        let policy = policy.trainable();
        let longest = policy.longest(params.max_length)?;
        let settings = DpoSettings {
            loss: params.loss,
            beta: params.beta,
            label_smoothing: params.label_smoothing,
        };
        let pairs = read_pairs(&inputs.preferences.source, &codec, longest)?;
        context.summary("rows_dropped", dropped(&inputs.preferences.source, &pairs)?);
        let objective = Dpo::new(settings, pairs, &reference)?;
        let curve = train(&policy, &objective, &params.training, context.seed, context)?;
        if let Some(test) = &inputs.test {
            let pairs = read_pairs(&test.source, &codec, longest)?;
            context.summary("test_rows", pairs.len() as f64);
            report(&Dpo::new(settings, pairs, &reference)?.ranking(&policy)?, context);
        }
        save(&policy, &outputs.model.path)?;
        copy_tokenizer(files, &outputs.model.path)?;
        write_curve(&curve, &outputs.curve.path)
    }
}

fn report(ranking: &Ranking, context: &mut Context) {
    context.estimate("test_accuracy", &ranking.accuracy);
    context.summary("test_margin", ranking.margin);
}

/// Pairs with what the reference thinks of them.
pub(crate) struct Dpo {
    settings: DpoSettings,
    pairs: Vec<Pair>,
    reference: Vec<[f32; 2]>,
}

impl Dpo {
    pub(crate) fn new(
        settings: DpoSettings,
        pairs: Vec<Pair>,
        reference: &Model,
    ) -> Result<Self, StageError> {
        settings.check()?;
        let reference = reference_log_probs(reference, &pairs)?;
        Ok(Self { settings, pairs, reference })
    }

    fn ratios(&self, model: &Model, rows: &[usize]) -> Ratios {
        let examples: Vec<&Example> = (rows.iter().map(|row| &self.pairs[*row].chosen))
            .chain(rows.iter().map(|row| &self.pairs[*row].rejected))
            .collect();
        let side = |side: usize| rows.iter().map(move |row| self.reference[*row][side]);
        let reference: Vec<f32> = side(0).chain(side(1)).collect();
        let reference = Tensor::from_slice(&reference).to_device(model.device());
        let ratios = (sequence_log_probs(model, &examples) - reference).chunk(2, 0);
        let lengths: Vec<f32> = examples.iter().map(|row| row.marked() as f32).collect();
        let lengths = Tensor::from_slice(&lengths).to_device(model.device()).chunk(2, 0);
        let [chosen, rejected] = [0, 1].map(|i| ratios[i].shallow_clone());
        let [chosen_length, rejected_length] = [0, 1].map(|i| lengths[i].shallow_clone());
        Ratios { chosen, rejected, chosen_length, rejected_length }
    }

    /// How many pairs the implicit reward `β log π/π_ref` ranks as labelled (ties count half), and its mean
    /// margin.
    pub(crate) fn ranking(&self, model: &Model) -> Result<Ranking, StageError> {
        let rows: Vec<&Example> =
            self.pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let log_probs = sequence_log_probs_of(model, &rows)?;
        let margin = |(ours, theirs): (&[f32], &[f32; 2])| {
            let [chosen, rejected] = [0, 1].map(|side| f64::from(ours[side] - theirs[side]));
            (chosen - rejected) * self.settings.beta
        };
        let margins: Vec<f64> = log_probs.chunks(2).zip(&self.reference).map(margin).collect();
        let prompts: Vec<&[u32]> = self.pairs.iter().map(Pair::prompt).collect();
        Ok(Ranking::of(&margins, &prompts))
    }
}

impl Objective for Dpo {
    fn rows(&self) -> usize {
        self.pairs.len()
    }

    fn weight(&self, row: usize) -> f64 {
        let pair = &self.pairs[row];
        f64::from(pair.chosen.labels() > 0 && pair.rejected.labels() > 0)
    }

    fn tokens(&self, row: usize) -> usize {
        self.pairs[row].chosen.ids.len() + self.pairs[row].rejected.ids.len()
    }

    fn loss(&self, model: &Model, rows: &[usize]) -> Result<Loss, StageError> {
        let ratios = self.ratios(model, rows);
        let sum = self.settings.losses(&ratios).sum(Kind::Float);
        Ok(Loss { sum, metrics: metrics(&ratios, self.settings.beta) })
    }
}
