//! `policy.distill`: a student learns the teacher's distribution of every token (Agarwal et al. 2024, "On-Policy Distillation of Language
//! Models: Learning from Self-Generated Mistakes", generalised knowledge distillation).
//!
//! Over completions of the student itself, from `rollout.sample`, it is on-policy.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        config::Head,
        decoder::Model,
        likelihood::learnt,
        pretrained::Pretrained,
        stepper::Loss,
        trainer::{Objective, Training, train},
    },
    port::{Out, ports},
    prepare::{
        examples::{Prepared, completions},
        tally::Fit,
        truncation::TooLong,
    },
    rules::{same_context, within_context},
    stage::Stage,
};

/// Distil a teacher.
pub(crate) struct Distill;

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Params {
    #[serde(flatten)]
    training: Training,
    /// Between two divergences: 0 is KL(teacher‖student), which covers all that the teacher may say, 1 is KL(student‖teacher), which
    /// avoids what the teacher would not; between them it is a Jensen–Shannon divergence of both to their mixture.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    beta: f64,
    /// Divides the logits of both. More makes what is unlikely count more.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    temperature: f64,
    /// Tokens that a text may have, prompt included; the student's context by default.
    #[serde(default)]
    #[schemars(range(min = 2))]
    max_length: Option<usize>,
    /// What happens to rows with a longer text.
    #[serde(default = "TooLong::drop")]
    too_long: TooLong,
}

fn half() -> f64 {
    0.5
}
fn one() -> f64 {
    1.0
}

ports!(Inputs {
    /// The student.
    policy: artifact::Model,
    /// The teacher, of the same tokenizer.
    teacher: artifact::Model,
    /// Completions over whose tokens both are compared: of anybody, of the teacher, or of the student itself.
    completions: artifact::Completions,
    /// The same to measure the divergence on, on the way as `evaluate_every` says.
    test: Option<artifact::Completions>,
});
ports!(Outputs {
    /// The student after training.
    model: Out<artifact::Model>,
    /// Divergence and gradient norm of every step.
    curve: Out<artifact::Metrics>,
});

impl Stage for Distill {
    const KIND: &'static str = "policy.distill";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Teach a policy what another says of every token.

The loss is a mean over the tokens of completions. Sampled from the student, in rounds say, they are what it does itself, and it learns where it \
errs; sampled from the teacher they are what is right. Both models' logits of a micro-batch are in memory at once.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        let mut rules = Training::rules();
        rules.push(within_context("max_length", "policy"));
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
        let (head, device) = (Head::LanguageModel, context.device);
        let policy = Pretrained::open("policy", &inputs.policy.source, head, device)?;
        let teacher = Pretrained::open("teacher", &inputs.teacher.source, head, device)?;
        teacher.same_tokens(&policy)?;
        let fit = Fit::new(&policy, params.max_length, params.too_long)?;
        let mut read = |port, source| {
            let report = &mut |done, all| context.progress(done, all, "rows read", "");
            completions(port, source, &policy.codec, fit, true, report)
        };
        let rows = read("completions", &inputs.completions.source)?;
        let test = inputs.test.as_ref().map(|test| read("test", &test.source)).transpose()?;
        context.tally("", &rows.tally);
        if let Some(test) = &test {
            context.tally("test_", &test.tally);
        }
        let longest = rows.rows.iter().map(|it| it.ids.len()).max().unwrap_or(0);
        teacher.bears(longest, "the completions with their prompts")?;
        let of = |it: Prepared<Example>| Distilled {
            rows: it.rows,
            numbers: it.numbers,
            teacher: &teacher.model,
            beta: params.beta,
            temperature: params.temperature,
        };
        let (objective, test) = (of(rows), test.map(of));
        let policy = policy.trainable();
        let order = context.stream("order");
        let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
        let learnt = train(&policy.model, on, &params.training, order, context)?;
        policy.save(&outputs.model.path)?;
        context.learnt(&learnt, &outputs.curve.path)
    }
}

/// Completions whose tokens student and teacher are compared over.
struct Distilled<'a> {
    rows: Vec<Example>,
    numbers: Vec<usize>,
    teacher: &'a Model,
    beta: f64,
    temperature: f64,
}

impl Objective for Distilled<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, row: usize) -> f64 {
        self.rows[row].labels() as f64
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].ids.len()
    }

    fn loss(&self, model: &Model, part: &[usize], _: &[usize]) -> Result<Loss, StageError> {
        let bins: Vec<&[Example]> =
            part.iter().map(|row| std::slice::from_ref(&self.rows[*row])).collect();
        let logits = |of: &Model| of.logits(&learnt(of, &bins).0) / self.temperature;
        let theirs = tch::no_grad(|| logits(self.teacher));
        let own = logits(model);
        let losses = divergence(&own, &theirs, self.beta);
        let agree = own.detach().argmax(-1, false).eq_tensor(&theirs.argmax(-1, false));
        Ok(Loss {
            sum: losses.sum(Kind::Float),
            metrics: vec![("agreement", agree.to_kind(Kind::Float).sum(Kind::Float))],
            tail: None,
        })
    }
}

/// Of every token, from logits of student and teacher: `KL(t‖s)` at β = 0, `KL(s‖t)` at β = 1, and between them `β KL(t‖m) + (1 − β)
/// KL(s‖m)` with `m = β t + (1 − β) s` (Agarwal et al. 2024, eq. 1).
pub(crate) fn divergence(own: &Tensor, theirs: &Tensor, beta: f64) -> Tensor {
    let [s, t] = [own, theirs].map(|it| it.log_softmax(-1, Kind::Float));
    let kl = |p: &Tensor, q: &Tensor| (p.exp() * (p - q)).sum_dim_intlist(-1, false, Kind::Float);
    if beta <= 0.0 {
        return kl(&t, &s);
    }
    if beta >= 1.0 {
        return kl(&s, &t);
    }
    let m = (&t + beta.ln()).logaddexp(&(&s + (1.0 - beta).ln()));
    kl(&t, &m) * beta + kl(&s, &m) * (1.0 - beta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_divergence_of_two_coins() {
        let logits = |p: f64| {
            Tensor::from_slice(&[p.ln(), (1.0 - p).ln()]).view([1, 2]).to_kind(Kind::Float)
        };
        let (own, theirs) = (logits(0.5), logits(0.75));
        let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        let of = |beta| divergence(&own, &theirs, beta).double_value(&[0]);
        assert!((of(0.0) - kl(0.75, 0.5)).abs() < 1e-6 && (of(1.0) - kl(0.5, 0.75)).abs() < 1e-6);
        let m = 0.2 * 0.75 + 0.8 * 0.5;
        assert!((of(0.2) - (0.2 * kl(0.75, m) + 0.8 * kl(0.5, m))).abs() < 1e-6);
        assert!(divergence(&own, &own, 0.3).double_value(&[0]).abs() < 1e-7);
    }
}
