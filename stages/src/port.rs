//! What goes into a stage and comes out of it: [`ports!`] declares the inputs or outputs of a kind,
//! [`artifact!`] a type of artifact that ports carry.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gradus_protocol::{
    Input, Job, Source,
    catalog::{Port, PortType},
};

use crate::{error::StageError, schema};

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
        doc: schema::plain(doc),
        port_type: PortType::Is(A::TYPES.iter().map(ToString::to_string).collect()),
        optional: false,
        many: false,
        empty: None,
        hands_on: BTreeMap::new(),
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

impl<A: Artifact> PortField for Option<Many<A>> {
    fn describe(name: &str, doc: &str) -> Port {
        Port { optional: true, ..Many::<A>::describe(name, doc) }
    }

    fn bind(name: &str, job: &Job) -> Result<Self, StageError> {
        let some = !given(name, job).is_empty();
        some.then(|| Many::bind(name, job)).transpose()
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

        impl $crate::port::Ports for $name {
            fn describe() -> Vec<gradus_protocol::catalog::Port> {
                vec![$(<$kind as $crate::port::PortField>::describe(
                    stringify!($port), concat!($($doc, "\n"),*),
                )),*]
            }

            #[allow(unused_variables, reason = "a kind without inputs binds nothing")]
            fn bind(job: &gradus_protocol::Job) -> Result<Self, $crate::error::StageError> {
                Ok(Self { $($port: $crate::port::PortField::bind(stringify!($port), job)?),* })
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

        impl $crate::port::Artifact for $name {
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

/// Relative name → where that file's bytes lie.
pub(crate) type Files = BTreeMap<String, PathBuf>;

/// The files of an artifact that is a folder.
pub(crate) fn files_of(source: &Source) -> Result<&Files, StageError> {
    match source {
        Source::Tree(files) => Ok(files),
        Source::File(_) => Err(StageError::refused("a file came in where a folder was expected")),
    }
}
