//! `data.split`: rows to learn from and rows to be tested on, with no prompt in both.

use std::collections::{HashMap, HashSet};

use gradus_protocol::catalog::{Port, PortType};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::{self, Row},
    },
    context::Context,
    error::StageError,
    nn::stream::Stream,
    port::{Out, file_of, ports},
    stage::Stage,
};

/// Split rows in two.
pub(crate) struct Split;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// How much to test on: below 1 a share of the rows, from 1 on a number of rows.
    #[serde(default = "default_test")]
    #[schemars(range(min = 0.0))]
    test: f64,
}

fn default_test() -> f64 {
    0.1
}

ports!(Inputs {
    /// The rows to split.
    rows: artifact::Rows,
});
ports!(Outputs {
    /// The rows to learn from.
    train: Out<artifact::Rows>,
    /// The rows to test on, with prompts that `train` has not.
    test: Out<artifact::Rows>,
});

impl Stage for Split {
    const KIND: &'static str = "data.split";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Split rows by prompt, so that no prompt is on both sides.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn output_types(outputs: &mut [Port]) {
        for output in outputs {
            output.port_type = PortType::SameAs { input: "rows".to_owned() };
        }
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let reader = dataset::Reader::open(file_of(&inputs.rows.source)?)?;
        let format = reader.format();
        let rows: Vec<Row> = reader.collect::<Result<_, _>>()?;
        let (train, test) = split(rows, params.test, context.stream("split"))?;
        dataset::write_all(&outputs.train.path, format, &train)?;
        dataset::write_all(&outputs.test.path, format, &test)?;
        context.summary("train_rows", train.len() as f64);
        context.summary("test_rows", test.len() as f64);
        Ok(())
    }
}

/// Takes whole prompts for the test side, in the order of their hashes, until it has enough rows. So rows
/// that are added later leave the others mostly where they are.
pub(crate) fn split(
    rows: Vec<Row>,
    test: f64,
    draws: Stream,
) -> Result<(Vec<Row>, Vec<Row>), StageError> {
    let share = if test < 1.0 { test * rows.len() as f64 } else { test };
    let wanted = share.round();
    if !(0.0..rows.len() as f64).contains(&wanted) {
        return Err(StageError::refused(format!(
            "`test: {test}` leaves nothing to learn from: there are {} rows",
            rows.len()
        )));
    }
    let hasher = draws.hasher();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        *counts.entry(row.prompt()).or_default() += 1;
    }
    let mut prompts: Vec<_> =
        counts.iter().map(|(prompt, count)| (rank(prompt, &hasher), *prompt, *count)).collect();
    prompts.sort_unstable();
    let mut taken = 0;
    let chosen: HashSet<String> = prompts
        .iter()
        .take_while(|(_, _, count)| {
            let more = (taken as f64) < wanted;
            taken += count;
            more
        })
        .map(|(_, prompt, _)| (*prompt).to_owned())
        .collect();
    let (test, train): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| chosen.contains(row.prompt()));
    if train.is_empty() {
        return Err(StageError::refused(
            "too few different prompts to have some on either side: lower `test`",
        ));
    }
    Ok((train, test))
}

fn rank(prompt: &str, hasher: &blake3::Hasher) -> [u8; 32] {
    *hasher.clone().update(prompt.as_bytes()).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::dataset::CompletionRow;

    fn rows(count: usize, prompts: usize) -> Vec<Row> {
        let row = |i: usize| CompletionRow {
            prompt: format!("prompt {}", i % prompts),
            completion: i.to_string(),
        };
        (0..count).map(|i| Row::PromptCompletion(row(i))).collect()
    }

    fn prompts(rows: &[Row]) -> HashSet<&str> {
        rows.iter().map(Row::prompt).collect()
    }

    #[test]
    fn no_prompt_is_on_both_sides_and_no_row_is_lost() {
        let rows = rows(1000, 300);
        let (train, test) = split(rows, 0.2, Stream::of(1)).unwrap();
        assert!(prompts(&train).is_disjoint(&prompts(&test)));
        assert_eq!(train.len() + test.len(), 1000);
        assert!((200..=203).contains(&test.len()), "{}", test.len());
    }

    #[test]
    fn from_one_on_test_counts_rows() {
        assert_eq!(split(rows(50, 50), 7.0, Stream::of(1)).unwrap().1.len(), 7);
        assert_eq!(split(rows(50, 50), 0.0, Stream::of(1)).unwrap().1.len(), 0);
    }

    #[test]
    fn the_seed_and_nothing_else_decides() {
        let rows = rows(100, 100);
        let test = |seed| split(rows.clone(), 0.3, Stream::of(seed)).unwrap().1;
        assert_eq!(test(1), test(1));
        assert_ne!(test(1), test(2));
    }

    #[test]
    fn a_test_side_that_takes_all_is_refused() {
        for (rows, test) in [(rows(5, 5), 5.0), (rows(5, 1), 0.5), (rows(5, 5), f64::NAN)] {
            assert!(split(rows, test, Stream::of(1)).is_err(), "{test}");
        }
    }
}
