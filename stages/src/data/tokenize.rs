//! `data.tokenize`: rows as token ids, made once for every stage that learns from them.
//!
//! What is the same for all models with one tokenizer is in it; what depends on a model's context, such as cutting,
//! stays with the stage that trains.

use std::fs;

use gradus_protocol::catalog::{Port, PortType};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{self, tokenizer::Codec},
    context::Context,
    error::StageError,
    port::{Out, ports},
    prepare::{
        token_rows::{Collector, Purpose},
        tokenising::tokenised,
    },
    stage::Stage,
};

/// Tokenise rows.
pub(crate) struct Tokenize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What the rows are for.
    r#for: Purpose,
}

ports!(Inputs {
    /// The rows; preferences also do for completions and text, and completions for text.
    rows: artifact::Rows,
    /// The tokenizer, which must be that of the model to be trained.
    tokenizer: artifact::Tokenizer,
});
ports!(Outputs {
    /// The rows as token ids, in place of rows.
    tokens: Out<artifact::Tokens>,
});

impl Stage for Tokenize {
    const KIND: &'static str = "data.tokenize";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Turn rows into token ids once, for many trainings.

Stages that learn from rows take them as text and tokenise them in memory. Of large data this makes a file that \
they map instead. Nothing is cut or dropped.";
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn decided(outputs: &mut [Port]) {
        let purposes = [Purpose::Text, Purpose::Completions, Purpose::Preferences];
        let types = purposes.map(|it| (it.name().to_owned(), format!("tokenized_{}", it.name())));
        for output in outputs {
            let (parameter, types) = ("for".to_owned(), types.to_vec());
            output.port_type = PortType::ByParameter { parameter, types };
        }
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let codec = Codec::load(&inputs.tokenizer.source)?;
        let path = &outputs.tokens.path;
        let growing = path.with_extension("growing");
        let collector = Collector::on_disk(params.r#for, &growing)?;
        let report = &mut |done, all| context.progress(done, all, "rows", "");
        let rows = tokenised("rows", &inputs.rows.source, &codec, collector, report)?;
        rows.save(&codec, path)?;
        fs::remove_file(&growing).map_err(StageError::file(&growing))?;
        let longest = rows.texts().map(|text| text.len()).max().unwrap_or(0);
        context.summary("rows", rows.len() as f64);
        context.summary("tokens", rows.ids().len() as f64);
        context.summary("longest", longest as f64);
        Ok(())
    }
}
