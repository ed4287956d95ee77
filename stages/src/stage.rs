//! What a stage kind is: [`Stage`], and [`AnyStage`] for a list of them.
//!
//! A kind names its parameters (a struct with documented fields), its ports (by [`ports!`]) and `run`.
//! Catalogue, checks and wiring follow from those.

use std::path::{Path, PathBuf};

use gradus_protocol::{
    Input, Job, Source,
    catalog::{Kind, Length, Port, PortType},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{catalog, context::Context};

/// Why a stage gave up. The words are for whoever wrote the pipeline.
#[derive(Debug, Error)]
pub(crate) enum StageError {
    /// The input or the numbers are at fault; says where, why and what to do.
    #[error("{0}")]
    Refused(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{}", first_line(.0))]
    Tensor(#[from] tch::TchError),
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl StageError {
    pub(crate) fn refused(words: impl Into<String>) -> Self {
        Self::Refused(words.into())
    }

    /// Names the file that an I/O error is about.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// libtorch's message without the C++ stack that follows it.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// One kind of stage. The struct's name is free; the doc is what `gradus stages show` prints.
pub(crate) trait Stage {
    const KIND: &'static str;
    /// Raise it when the same inputs would give other outputs.
    const REVISION: u32;
    /// One line, then what a person needs to know to use it.
    const DOC: &'static str;
    /// False for kinds whose outputs are the same on every device.
    const USES_DEVICE: bool = true;
    type Params: DeserializeOwned + JsonSchema;
    type Inputs: Ports;
    type Outputs: Ports;

    /// Which parameters say how long the stage works, for kinds that work in steps.
    fn length() -> Option<Length> {
        None
    }

    /// Changes the declared type of an output that a parameter or an input decides.
    fn output_types(_outputs: &mut [Port]) {}

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
}

impl AnyStage {
    pub(crate) const fn of<S: Stage>() -> Self {
        Self { name: S::KIND, describe: describe::<S>, run: run::<S> }
    }
}

fn describe<S: Stage>() -> Kind {
    let mut outputs = S::Outputs::describe();
    S::output_types(&mut outputs);
    Kind {
        kind: S::KIND.to_owned(),
        revision: S::REVISION,
        doc: catalog::plain(S::DOC),
        uses_device: S::USES_DEVICE,
        length: S::length(),
        params: catalog::params::<S::Params>(),
        inputs: S::Inputs::describe(),
        outputs,
    }
}

fn run<S: Stage>(job: &Job, context: &mut Context) -> Result<(), StageError> {
    let params = serde_json::from_value(job.params.clone()).map_err(|error| {
        StageError::refused(format!("the parameters of `{}`: {error}", S::KIND))
    })?;
    S::run(params, S::Inputs::bind(job)?, S::Outputs::bind(job)?, context)
}

/// The inputs or the outputs of a kind.
pub(crate) trait Ports: Sized {
    fn describe() -> Vec<Port>;
    fn bind(job: &Job) -> Result<Self, StageError>;
}

/// One field of a [`Ports`] struct.
pub(crate) trait PortField: Sized {
    fn describe(name: &str, doc: &str) -> Port;
    fn bind(name: &str, job: &Job) -> Result<Self, StageError>;
}

/// A kind of artifact, as an input reads it.
pub(crate) trait Artifact: Sized {
    /// The port types it can read; the first is the one that an output of this type has.
    const TYPES: &'static [&'static str];
    fn at(input: &Input) -> Self;
}

fn port<A: Artifact>(name: &str, doc: &str) -> Port {
    Port {
        name: name.to_owned(),
        doc: catalog::plain(doc),
        port_type: PortType::Is(A::TYPES.iter().map(ToString::to_string).collect()),
        optional: false,
        many: false,
    }
}

fn given<'job>(name: &str, job: &'job Job) -> &'job [Input] {
    job.inputs.get(name).map_or(&[], Vec::as_slice)
}

impl<A: Artifact> PortField for A {
    fn describe(name: &str, doc: &str) -> Port {
        port::<A>(name, doc)
    }

    fn bind(name: &str, job: &Job) -> Result<Self, StageError> {
        let input = given(name, job).first();
        input
            .map(A::at)
            .ok_or_else(|| StageError::refused(format!("the input `{name}` is missing")))
    }
}

impl<A: Artifact> PortField for Option<A> {
    fn describe(name: &str, doc: &str) -> Port {
        Port { optional: true, ..port::<A>(name, doc) }
    }

    fn bind(name: &str, job: &Job) -> Result<Self, StageError> {
        Ok(given(name, job).first().map(A::at))
    }
}

/// A fan-in: each artifact with the name of the stage that made it.
pub(crate) struct Many<A>(pub(crate) Vec<(String, A)>);

impl<A: Artifact> PortField for Many<A> {
    fn describe(name: &str, doc: &str) -> Port {
        Port { many: true, ..port::<A>(name, doc) }
    }

    fn bind(name: &str, job: &Job) -> Result<Self, StageError> {
        let inputs = given(name, job).iter();
        Ok(Self(inputs.map(|input| (input.label.clone(), A::at(input))).collect()))
    }
}

/// Where an output of type `A` is to be written: a file or a folder that does not exist yet.
pub(crate) struct Out<A> {
    pub(crate) path: PathBuf,
    artifact: std::marker::PhantomData<A>,
}

impl<A: Artifact> PortField for Out<A> {
    fn describe(name: &str, doc: &str) -> Port {
        let mut port = port::<A>(name, doc);
        port.port_type = PortType::Is(vec![A::TYPES[0].to_owned()]);
        port
    }

    fn bind(name: &str, job: &Job) -> Result<Self, StageError> {
        let path = job.outputs.get(name).cloned();
        path.map(|path| Self { path, artifact: std::marker::PhantomData })
            .ok_or_else(|| StageError::refused(format!("the job has no place for output `{name}`")))
    }
}

/// Declares the inputs or outputs of a kind; the field docs are the ports' docs.
macro_rules! ports {
    ($name:ident { $($(#[doc = $doc:literal])* $port:ident : $kind:ty),* $(,)? }) => {
        pub(crate) struct $name { $(pub(crate) $port: $kind),* }

        impl $crate::stage::Ports for $name {
            fn describe() -> Vec<gradus_protocol::catalog::Port> {
                vec![$(<$kind as $crate::stage::PortField>::describe(
                    stringify!($port), concat!($($doc, "\n"),*),
                )),*]
            }

            #[allow(unused_variables, reason = "a kind without inputs binds nothing")]
            fn bind(job: &gradus_protocol::Job) -> Result<Self, $crate::stage::StageError> {
                Ok(Self { $($port: $crate::stage::PortField::bind(stringify!($port), job)?),* })
            }
        }
    };
}
pub(crate) use ports;

/// Declares a type of artifact that is just its [`Source`]: `artifact!(Model: "model")`.
macro_rules! artifact {
    ($(#[doc = $doc:literal])* $name:ident : $($types:literal)|+) => {
        $(#[doc = $doc])*
        #[allow(dead_code, reason = "some types are only ever written")]
        pub(crate) struct $name {
            pub(crate) label: String,
            pub(crate) source: gradus_protocol::Source,
        }

        impl $crate::stage::Artifact for $name {
            const TYPES: &'static [&'static str] = &[$($types),+];

            fn at(input: &gradus_protocol::Input) -> Self {
                Self { label: input.label.clone(), source: input.source.clone() }
            }
        }
    };
}
pub(crate) use artifact;

/// The one file of an artifact that is a file.
pub(crate) fn file_of(source: &Source) -> Result<&Path, StageError> {
    match source {
        Source::File(path) => Ok(path),
        Source::Tree(_) => Err(StageError::refused("a folder came in where a file was expected")),
    }
}
