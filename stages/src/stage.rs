//! What a stage kind is: [`Stage`], and [`AnyStage`] for a list of them.
//!
//! A kind names its parameters (a struct with documented fields), its ports (by [`crate::port::ports!`]) and `run`.
//! Catalogue, checks and wiring follow from those.

use std::collections::BTreeMap;

use gradus_protocol::{
    Input, Job,
    catalog::{Kind, Length, Port, Rule, Unaffected},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{context::Context, error::StageError, port::Ports, schema};

/// What stands at each input.
pub(crate) type Given = BTreeMap<String, Vec<Input>>;

/// One kind of stage. The struct's name is free; the doc is what `gradus stages show` prints.
pub(crate) trait Stage {
    const KIND: &'static str;
    /// Raise it when the same inputs would give other outputs.
    const REVISION: u32;
    /// One line, then what a person needs to know to use it.
    const DOC: &'static str;
    /// False for kinds whose outputs are the same on every device.
    const USES_DEVICE: bool = true;
    /// False for kinds that draw nothing at random.
    const USES_SEED: bool = true;
    /// The inputs that it treats row by row, keeping what it computed of each, and the parameters that say how many.
    const BY_ROW: &'static [&'static str] = &[];
    /// Whether it has a `look` of its own.
    const LOOKS: bool = false;
    type Params: DeserializeOwned + JsonSchema;
    type Inputs: Ports;
    type Outputs: Ports;

    /// What its parameters must not say together, so that it is said before anything runs.
    fn rules() -> Vec<Rule> {
        Vec::new()
    }

    /// What is worth a word beside its numbers: `param` names a metric here, or a parameter.
    fn advice() -> Vec<Rule> {
        Vec::new()
    }

    /// Which parameters say how long the stage works, for kinds that work in steps.
    fn length() -> Option<Length> {
        None
    }

    /// Whom its revisions spared.
    fn unaffected() -> Vec<Unaffected> {
        Vec::new()
    }

    /// Parameters with which it does as little as it can, yet all that it does.
    fn rehearsal() -> Value {
        Value::Null
    }

    /// Says of outputs what parameters or inputs decide: their type, and whether they are empty.
    fn decided(_outputs: &mut [Port]) {}

    /// Looks at files of a person's own before anything runs, where that hangs on parameters: at their beginnings, no more.
    /// An input that another stage is still to make is not among `inputs`.
    fn look(_params: &Self::Params, _inputs: &Given) -> Result<(), StageError> {
        Ok(())
    }

    fn run(
        params: Self::Params,
        inputs: Self::Inputs,
        outputs: Self::Outputs,
        context: &mut Context,
    ) -> Result<(), StageError>;
}

/// A [`Stage`] with its types forgotten.
#[derive(Clone, Copy)]
pub(crate) struct AnyStage {
    pub(crate) name: &'static str,
    pub(crate) describe: fn() -> Kind,
    pub(crate) run: fn(&Job, &mut Context) -> Result<(), StageError>,
    pub(crate) look: fn(&Value, &Given) -> Result<(), StageError>,
}

impl AnyStage {
    pub(crate) const fn of<S: Stage>() -> Self {
        Self { name: S::KIND, describe: describe::<S>, run: run::<S>, look: look::<S> }
    }
}

fn describe<S: Stage>() -> Kind {
    let mut outputs = S::Outputs::describe();
    S::decided(&mut outputs);
    Kind {
        kind: S::KIND.to_owned(),
        revision: S::REVISION,
        unaffected: S::unaffected(),
        doc: schema::plain(S::DOC),
        uses_device: S::USES_DEVICE,
        uses_seed: S::USES_SEED,
        length: S::length(),
        looks: S::LOOKS,
        by_row: S::BY_ROW.iter().map(|name| (*name).to_owned()).collect(),
        rehearsal: S::rehearsal().as_object().cloned().unwrap_or_default().into_iter().collect(),
        params: schema::params::<S::Params>(),
        rules: S::rules(),
        advice: S::advice(),
        inputs: S::Inputs::describe(),
        outputs,
    }
}

fn look<S: Stage>(params: &Value, inputs: &Given) -> Result<(), StageError> {
    if S::LOOKS { S::look(&params_of::<S>(params)?, inputs) } else { Ok(()) }
}

fn params_of<S: Stage>(params: &Value) -> Result<S::Params, StageError> {
    serde_json::from_value(params.clone())
        .map_err(|error| StageError::refused(format!("the parameters of `{}`: {error}", S::KIND)))
}

fn run<S: Stage>(job: &Job, context: &mut Context) -> Result<(), StageError> {
    S::run(params_of::<S>(&job.params)?, S::Inputs::bind(job)?, S::Outputs::bind(job)?, context)?;
    context.check_summary()
}
