//! What a language model loses on rows that it did not learn from, for the summary of a training.

use crate::{
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        decoder::Model,
        likelihood::{HeldOut, held_out},
    },
};

/// Reports loss and perplexity, over learnt tokens, of the test rows.
pub(super) fn report_held_out(
    model: &Model,
    rows: &[Example],
    context: &mut Context,
) -> Result<(), StageError> {
    let report = |done, all| context.progress(done, all, "test rows", "");
    let HeldOut { loss, tokens } = held_out(model, rows, report)?;
    context.summary("test_loss", loss);
    context.summary("test_perplexity", loss.exp());
    context.summary("test_tokens", tokens as f64);
    Ok(())
}
