//! Learning from preferences without a reference: what comes in, what comes out, and the training, of every kind that looks at a pair's
//! own log-probabilities. A kind says what a pair costs, and how much its chosen side is imitated besides.

use gradus_protocol::catalog::{Length, Port, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};

use super::pairs::{PairLoss, Pairs};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        pretrained::Pretrained,
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
