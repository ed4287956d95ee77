//! `policy.dpo`: direct preference optimisation (Rafailov et al. 2023, eq. 7) and its relatives.
//!
//! Widens the gap between chosen and rejected completions, measured against a frozen reference, so no
//! reward model is needed. The reference's log-probabilities are known before the first step: computed here, or
//! once for many trainings by `policy.reference`.

use std::collections::BTreeMap;

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;
use tch::Tensor;

use crate::{
    artifact::{self, digest::digest},
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        pretrained::Pretrained,
        ranking::Ranking,
        trainer::{Objective, Training, train},
    },
    policy::{
        log_probs::LogProbs,
        losses::{Divergence, DpoLoss, DpoSettings, Ratios},
        pairs::{Imitated, PairLoss, Pairs, Sides},
    },
    port::{Out, file_of, ports},
    prepare::{
        examples::{Pair, Prepared, pairs},
        tally::Fit,
        truncation::TooLong,
    },
    rules::{param, rule, same_context, within_context},
    stage::Stage,
};

/// Direct preference optimisation.
pub(crate) struct TrainDpo;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// How strongly the policy is held to the reference: more keeps it closer.
    #[serde(default = "default_beta")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    beta: f64,
    /// How the log-ratios of a pair become a loss.
    #[serde(default)]
    loss: DpoLoss,
    /// Several losses in place of `loss`, each with its weight: `{ sigmoid: 0.8, bco_pair: 0.2 }` with `imitation_weight: 1` is MPO.
    #[serde(default)]
    mix: Option<BTreeMap<String, f64>>,
    /// Weight of imitating the chosen completion besides: the mean over its tokens of −log p (RPO).
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    imitation_weight: f64,
    /// The divergence that holds the policy to its reference (f-DPO).
    #[serde(default)]
    divergence: Divergence,
    /// Of `divergence: alpha`: its α, which is not 1.
    #[serde(default = "half")]
    alpha: f64,
    /// Of `loss: discopop`: the temperature of its gate.
    #[serde(default = "twentieth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    discopop_tau: f64,
    /// Share of labels taken to be flipped; more keeps the policy from growing sure. For `sigmoid`,
    /// `sigmoid_norm`, `robust`, `exo_pair`, `aot` and `aot_unpaired`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    label_smoothing: f64,
    /// Tokens that a text may have, prompt included; the model's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to pairs with a longer text. Of cut texts nobody said which is better.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

fn half() -> f64 {
    0.5
}

fn twentieth() -> f64 {
    0.05
}

fn default_beta() -> f64 {
    0.1
}

ports!(Inputs {
    /// The model to be trained.
    policy: artifact::Model,
    /// What the policy is held to; the policy as it came in by default.
    reference: Option<artifact::Model>,
    /// What the reference thinks of all pairs, from `policy.reference`: in place of `reference`, so that several
    /// trainings need not compute it again.
    log_probs: Option<artifact::LogProbs>,
    /// Pairs to learn from.
    preferences: artifact::Preferences,
    /// Pairs to measure the implicit reward's accuracy on, after training, and its loss on the way as `evaluate_every` says.
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
    const REVISION: u32 = 4;
    const DOC: &'static str = "Train a policy on preferences directly, without a reward model.

Direct preference optimisation (Rafailov et al. 2023) and its relatives. Pairs with a text \
longer than `max_length` are dropped, or cut as `too_long` says, and counted; those whose prompt fills it are \
dropped.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn advice() -> Vec<Rule> {
        vec![rule(
            "on held-out rows the implicit reward may be no better than a coin (from {test_accuracy_low} on)",
            [param("test_accuracy_low").below(0.5)],
        )]
    }

    fn rules() -> Vec<Rule> {
        let unheeding = [
            "hinge",
            "ipo",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "apo_zero",
            "apo_down",
            "discopop",
        ];
        let single =
            ["ipo", "sigmoid_norm", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"];
        let mut rules = Training::rules();
        rules.extend([
            within_context("max_length", "policy"),
            rule(
                "this `loss` does not heed `label_smoothing`: take it out, or choose `sigmoid`, `sigmoid_norm`, \
                 `robust` or `exo_pair`",
                [param("label_smoothing").above(0), param("loss").is(unheeding)],
            ),
            rule(
                "`exo_pair` needs a `label_smoothing` above zero",
                [param("loss").is(["exo_pair"]), param("label_smoothing").is([0])],
            ),
            rule(
                "another `divergence` is of losses that look at nothing but the difference of the two sides: this `loss` is not \
                 one of them",
                [param("divergence").is(["forward_kl", "js", "alpha"]), param("loss").is(single)],
            ),
            rule(
                "`alpha: 1` is the reverse KL divergence: take `divergence` out",
                [param("divergence").is(["alpha"]), param("alpha").is([1])],
            ),
            rule(
                "this `loss` sorts the pairs of a whole step, so they must be in memory at once: take `micro_batch` out",
                [param("loss").is(["aot", "aot_unpaired"]), param("micro_batch").given()],
            ),
            rule(
                "`robust` needs a `label_smoothing` below 0.5",
                [param("loss").is(["robust"]), param("label_smoothing").is([0.5])],
            ),
        ]);
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
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let settings = params.settings()?;
        let source = &inputs.policy.source;
        let policy = Pretrained::open("policy", source, Head::LanguageModel, context.device)?;
        let fit = Fit::new(&policy, params.max_length, params.too_long)?;
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
        let test_rows = test.as_ref().map_or(&[][..], |test| &test.rows);
        let reference = reference(&inputs, &policy, [&rows.rows, test_rows], context)?;
        let of =
            |it: Prepared<Pair>| Pairs::new(&settings, it.rows, it.numbers).held_to(&reference);
        let (objective, test) = (of(rows)?, test.map(of).transpose()?);
        let policy = policy.trainable();
        let order = context.stream("order");
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&policy.model, on, &params.training, order, context)?;
        if let Some(test) = test {
            let progress = |done, all| context.progress(done, all, "test completions", "");
            report(&test.ranking(&policy.model, progress)?, context);
        }
        policy.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

impl Params {
    fn settings(&self) -> Result<DpoSettings, StageError> {
        let mut losses = vec![(self.loss, 1.0)];
        if let Some(mix) = &self.mix {
            losses.clear();
            for (name, weight) in mix {
                let loss = serde_json::from_value(name.as_str().into());
                let wrong = |why: String| StageError::refused(format!("`mix`: {why}"));
                let loss = loss.map_err(|error| wrong(error.to_string()))?;
                self.fits(loss).map_err(|why| wrong(format!("`{name}` {why}")))?;
                losses.push((loss, *weight));
            }
            if losses.is_empty() {
                return Err(StageError::refused("`mix` names no loss"));
            }
        }
        Ok(DpoSettings {
            losses,
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            discopop_tau: self.discopop_tau,
            divergence: self.divergence,
            alpha: self.alpha,
            imitation_weight: self.imitation_weight,
        })
    }
}

impl Params {
    /// Refuses a loss of a mixture that cannot be had with the other parameters, as `rules` do of `loss`.
    fn fits(&self, loss: DpoLoss) -> Result<(), &'static str> {
        let sorts = matches!(loss, DpoLoss::Aot | DpoLoss::AotUnpaired);
        let by_gap = matches!(
            loss,
            DpoLoss::Sigmoid
                | DpoLoss::Robust
                | DpoLoss::Hinge
                | DpoLoss::ExoPair
                | DpoLoss::Discopop
        );
        if loss == DpoLoss::ExoPair && self.label_smoothing <= 0.0 {
            Err("needs a `label_smoothing` above zero")
        } else if loss == DpoLoss::Robust && self.label_smoothing >= 0.5 {
            Err("needs a `label_smoothing` below 0.5")
        } else if sorts && self.training.micro_batch.is_some() {
            Err("sorts the pairs of a whole step: take `micro_batch` out")
        } else if self.divergence != Divergence::ReverseKl && !by_gap && !sorts {
            Err("looks at more than the difference of the two sides: take `divergence` out")
        } else {
            Ok(())
        }
    }
}

impl PairLoss for DpoSettings {
    /// The losses of the log-ratios to the reference, and `β log π/π_ref` (Rafailov et al. 2023, eq. 5).
    fn of(&self, sides: &Sides) -> (Tensor, [Tensor; 2]) {
        let zeros = || [sides.chosen.zeros_like(), sides.rejected.zeros_like()];
        let [held, other] = match &sides.reference {
            Some([chosen, rejected]) => [chosen.shallow_clone(), rejected.shallow_clone()],
            None => zeros(),
        };
        let ratios = Ratios {
            chosen: &sides.chosen - &held,
            rejected: &sides.rejected - &other,
            reference_gap: held - other,
            chosen_length: sides.chosen_length.shallow_clone(),
            rejected_length: sides.rejected_length.shallow_clone(),
        };
        let rewards = [&ratios.chosen * self.beta, &ratios.rejected * self.beta];
        (self.losses(&ratios), rewards)
    }

    fn imitation(&self) -> (f64, Imitated) {
        (self.imitation_weight, Imitated::Completion)
    }

    fn reward(&self, log_prob: f64, reference: f64, _: f64) -> f64 {
        self.beta * (log_prob - reference)
    }
}

fn report(ranking: &Ranking, context: &mut Context) {
    context.estimate("test_accuracy", &ranking.accuracy);
    context.summary("test_margin", ranking.margin);
}

/// What the reference thinks of the pairs: as it was computed before, or computed now.
fn reference(
    inputs: &Inputs,
    policy: &Pretrained,
    pairs: [&[Pair]; 2],
    context: &mut Context,
) -> Result<LogProbs, StageError> {
    let (model, known) = (&inputs.reference, &inputs.log_probs);
    if let Some(known) = known {
        if model.is_some() {
            return Err(StageError::refused(
                "both `reference` and `log_probs` say what the policy is held to: give one",
            ));
        }
        return LogProbs::load(file_of(&known.source)?);
    }
    let other = model.as_ref().filter(|it| it.source != inputs.policy.source);
    let opened = other
        .map(|it| Pretrained::open("reference", &it.source, Head::LanguageModel, context.device))
        .transpose()?;
    if let Some(reference) = &opened {
        reference.same_tokens(policy)?;
        let rows = pairs.into_iter().flatten().flat_map(Pair::sides);
        let longest = rows.map(|row| row.ids.len()).max().unwrap_or(0);
        reference.bears(longest, "the pairs")?;
    }
    let source = other.map_or(&inputs.policy.source, |it| &it.source);
    let page = context.page("log_prob", 2, &digest(source)?);
    let reference = opened.as_ref().map_or(&policy.model, |it| &it.model);
    let mut found = LogProbs::default();
    for pairs in pairs {
        let report = |done, all| context.rows(done, all, "reference completions");
        found.add(reference, pairs.iter().flat_map(Pair::sides), &page, report)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mixture_is_refused_where_one_of_its_losses_would_be() {
        let of = |given: serde_json::Value| {
            let mut params = json!({ "learning_rate": 0.1 });
            params.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            let params: Params = serde_json::from_value(params).unwrap();
            params.settings().map(|it| it.losses.len()).map_err(|error| error.to_string())
        };
        assert_eq!(of(json!({ "mix": { "sigmoid": 0.8, "bco_pair": 0.2 } })), Ok(2));
        let refused = |given| of(given).unwrap_err();
        assert!(refused(json!({ "mix": {} })).contains("names no loss"));
        assert!(refused(json!({ "mix": { "sigmiod": 1.0 } })).contains("sigmiod"));
        assert!(refused(json!({ "mix": { "exo_pair": 1.0 } })).contains("above zero"));
        let sorted = json!({ "mix": { "aot": 1.0 }, "micro_batch": 2 });
        assert!(refused(sorted).contains("take `micro_batch` out"));
        let bent = json!({ "mix": { "sigmoid": 1.0, "apo_zero": 1.0 }, "divergence": "js" });
        assert!(refused(bent).contains("`apo_zero` looks at more"));
    }
}
