//! `data.split`: rows to learn from and rows to be tested on, with nothing learnt from one that is asked in
//! the other.
//!
//! Groups of rows are taken in the order of their hashes, so rows that come later move few of the others.

use std::collections::{BTreeMap, HashSet};

use gradus_protocol::catalog::{Port, PortType};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    artifact::{
        self,
        dataset::Row,
        dataset_folder::{Reader, write_all},
    },
    context::Context,
    data::groups,
    error::StageError,
    nn::stream::Stream,
    port::{Out, ports},
    rules::{param, rule},
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
    /// The column whose rows with one value stay on one side. Left out, rows stay together whose prompts
    /// begin with one and the same prompt.
    #[serde(default)]
    group: Option<String>,
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
    /// The rows to test on, of groups that `train` has nothing of.
    test: Out<artifact::Rows>,
});

impl Stage for Split {
    const KIND: &'static str = "data.split";
    const REVISION: u32 = 2;
    const DOC: &'static str = "Split rows so that no prompt is on both sides, nor one that goes on with it.

Prompts that begin with one and the same prompt, as the turns of a dialogue do, stay together; or, with \
`group`, rows with the same value in that column.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "test": 100 })
    }

    fn decided(outputs: &mut [Port]) {
        for output in outputs {
            if output.name == "test" {
                output.empty = Some(rule("`test` is 0 there", [param("test").is([0])]));
            }
            output.port_type = PortType::SameAs { input: "rows".to_owned() };
        }
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let reader = Reader::open(&inputs.rows.source)?;
        let format = reader.format();
        let heard = |row| context.heard().and(row);
        let rows: Vec<Row> = reader.map(heard).collect::<Result<_, _>>()?;
        let sides = split(rows, params.test, params.group.as_deref(), context.stream("split"))?;
        write_all(&outputs.train.path, format, &sides.train)?;
        write_all(&outputs.test.path, format, &sides.test)?;
        context.summary("train_rows", sides.train.len() as f64);
        context.summary("test_rows", sides.test.len() as f64);
        if let Some(note) = sides.note {
            context.note(note);
        }
        Ok(())
    }
}

/// What became of the rows, and what a person should know of it.
pub(crate) struct Sides {
    pub(crate) train: Vec<Row>,
    pub(crate) test: Vec<Row>,
    pub(crate) note: Option<String>,
}

/// Takes whole groups for the test side until it has as many rows as it should.
pub(crate) fn split(
    rows: Vec<Row>,
    test: f64,
    group: Option<&str>,
    draws: Stream,
) -> Result<Sides, StageError> {
    let share = if test < 1.0 { test * rows.len() as f64 } else { test };
    let wanted = share.round();
    if !(0.0..rows.len() as f64).contains(&wanted) {
        return Err(StageError::refused(format!(
            "`test: {test}` leaves nothing to learn from: there are {} rows",
            rows.len()
        )));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "fewer than rows")]
    let wanted = wanted as usize;
    let names = names(&rows, group)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        *counts.entry(name).or_default() += 1;
    }
    let (chosen, taken) = take(&counts, wanted, &draws.hasher());
    let asked = || format!("`test: {test}` asks for {wanted} rows");
    if wanted > 0 && (taken == 0 || taken == rows.len()) {
        return Err(StageError::refused(format!(
            "{}, and no groups of rows that must stay together come near it: {}",
            asked(),
            largest(&counts, rows.len())
        )));
    }
    let note = (taken.abs_diff(wanted) * 10 > wanted)
        .then(|| format!("{}, and there are {taken}: {}", asked(), largest(&counts, rows.len())));
    let is_test: Vec<bool> = names.iter().map(|name| chosen.contains(name.as_str())).collect();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (row, is_test) in rows.into_iter().zip(is_test) {
        if is_test { test.push(row) } else { train.push(row) }
    }
    Ok(Sides { train, test, note })
}

/// Groups in the order of their hashes, each if it brings the number of rows nearer to `wanted`; and that
/// number.
fn take<'a>(
    counts: &BTreeMap<&'a str, usize>,
    wanted: usize,
    hasher: &blake3::Hasher,
) -> (HashSet<&'a str>, usize) {
    let mut groups: Vec<_> =
        counts.iter().map(|(name, count)| (rank(name, hasher), *name, *count)).collect();
    groups.sort_unstable();
    let (mut chosen, mut taken) = (HashSet::new(), 0);
    for (_, name, count) in groups {
        let missing = wanted.saturating_sub(taken);
        if (taken + count).saturating_sub(wanted) <= missing {
            taken += count;
            chosen.insert(name);
        }
    }
    (chosen, taken)
}

/// The group that is to blame if sides cannot have the sizes that they should.
fn largest(counts: &BTreeMap<&str, usize>, rows: usize) -> String {
    let largest = counts.iter().max_by_key(|(_, count)| **count);
    largest.map_or_else(String::new, |(name, count)| {
        let start: String = name.chars().take(40).collect();
        format!("the largest group, `{}…`, has {count} of {rows} rows", start.escape_debug())
    })
}

/// For each row the name of its group: the value of a column, or the prompt that its prompt begins with.
fn names(rows: &[Row], group: Option<&str>) -> Result<Vec<String>, StageError> {
    let Some(column) = group else {
        let groups = groups::by_beginning(rows.iter().map(Row::prompt));
        return Ok(rows.iter().map(|row| groups[row.prompt()].to_owned()).collect());
    };
    let name = |(index, row): (usize, &Row)| match row.extra.get(column) {
        Some(value) if !value.is_null() => Ok(value.to_string()),
        _ => Err(StageError::refused(format!(
            "row {} has nothing in the column `{column}`, which `group` names",
            index + 1
        ))),
    };
    rows.iter().enumerate().map(name).collect()
}

fn rank(name: &str, hasher: &blake3::Hasher) -> [u8; 32] {
    *hasher.clone().update(name.as_bytes()).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::dataset::{CompletionRow, Fields};

    fn row(prompt: &str, completion: String) -> Row {
        Fields::PromptCompletion(CompletionRow { prompt: prompt.to_owned(), completion }).into()
    }

    fn rows(count: usize, prompts: usize) -> Vec<Row> {
        // No prompt is the beginning of another.
        (0..count).map(|i| row(&format!("prompt {}.", i % prompts), i.to_string())).collect()
    }

    fn halves(rows: Vec<Row>, test: f64, seed: u64) -> Result<Sides, String> {
        split(rows, test, None, Stream::of(seed)).map_err(|error| error.to_string())
    }

    fn prompts(rows: &[Row]) -> HashSet<&str> {
        rows.iter().map(Row::prompt).collect()
    }

    #[test]
    fn no_prompt_is_on_both_sides_and_no_row_is_lost() {
        let sides = halves(rows(1000, 300), 0.2, 1).unwrap();
        assert!(prompts(&sides.train).is_disjoint(&prompts(&sides.test)));
        assert_eq!(sides.train.len() + sides.test.len(), 1000);
        assert!((198..=202).contains(&sides.test.len()), "{}", sides.test.len());
        assert_eq!(sides.note, None);
    }

    #[test]
    fn a_dialogue_and_what_goes_on_with_it_are_on_one_side() {
        let turns = (0..300)
            .map(|i| row(&format!("q{}.{}", i % 100, " a b".repeat(i / 100)), i.to_string()));
        let sides = halves(turns.collect(), 0.2, 1).unwrap();
        let start = |prompt: &str| prompt.split('.').next().unwrap().to_owned();
        let starts =
            |rows: &[Row]| -> HashSet<_> { rows.iter().map(|row| start(row.prompt())).collect() };
        assert!(starts(&sides.train).is_disjoint(&starts(&sides.test)));
        assert_eq!(sides.test.len(), 60);
        let [train, test] = [&sides.train, &sides.test].map(|side| side.iter().map(Row::prompt));
        assert_eq!(groups::shared(train, test), 0);
    }

    #[test]
    fn rows_with_one_value_in_the_group_column_are_on_one_side() {
        let with = |i: usize| {
            let mut row = row(&format!("{i}."), String::new());
            row.extra.insert("user".to_owned(), (i % 10).into());
            row
        };
        let rows: Vec<Row> = (0..100).map(with).collect();
        let sides = split(rows.clone(), 0.3, Some("user"), Stream::of(1)).unwrap();
        let users = |rows: &[Row]| -> HashSet<String> {
            rows.iter().map(|row| row.extra["user"].to_string()).collect()
        };
        assert!(users(&sides.train).is_disjoint(&users(&sides.test)));
        assert_eq!((sides.test.len(), users(&sides.test).len()), (30, 3));
        let error = split(rows, 0.3, Some("usr"), Stream::of(1)).err().unwrap().to_string();
        insta::assert_snapshot!(error, @"row 1 has nothing in the column `usr`, which `group` names");
    }

    #[test]
    fn a_group_too_large_for_the_test_side_is_for_learning_and_one_too_large_for_both_is_said() {
        let giant = |others: usize| {
            let mut rows = rows(others, others);
            rows.extend((0..60).map(|i| row(&format!("giant {i}"), String::new())));
            rows.push(row("giant", String::new()));
            rows
        };
        for seed in 0..5 {
            let sides = halves(giant(39), 0.1, seed).unwrap();
            assert_eq!((sides.test.len(), sides.note), (10, None));
        }
        let few = halves(giant(4), 0.2, 1).unwrap();
        insta::assert_snapshot!(few.note.unwrap(), @"`test: 0.2` asks for 13 rows, and there are 4: the largest group, `giant…`, has 61 of 65 rows");
        insta::assert_snapshot!(halves(giant(0), 0.2, 1).err().unwrap(), @"`test: 0.2` asks for 12 rows, and no groups of rows that must stay together come near it: the largest group, `giant…`, has 61 of 61 rows");
    }

    #[test]
    fn rows_that_come_later_leave_the_others_where_they_are() {
        let first = halves(rows(100, 100), 10.0, 1).unwrap().test;
        let later = halves(rows(110, 110), 11.0, 1).unwrap().test;
        let stayed = prompts(&first).intersection(&prompts(&later)).count();
        assert!(stayed >= 8, "{stayed}");
    }

    #[test]
    fn from_one_on_test_counts_rows() {
        assert_eq!(halves(rows(50, 50), 7.0, 1).unwrap().test.len(), 7);
        assert_eq!(halves(rows(50, 50), 0.0, 1).unwrap().test.len(), 0);
    }

    #[test]
    fn the_seed_and_nothing_else_decides() {
        let rows = rows(100, 100);
        let test = |seed| halves(rows.clone(), 0.3, seed).unwrap().test;
        assert_eq!(test(1), test(1));
        assert_ne!(test(1), test(2));
    }

    #[test]
    fn a_test_side_that_takes_all_is_refused() {
        for (rows, test) in [(rows(5, 5), 5.0), (rows(5, 1), 0.5), (rows(5, 5), f64::NAN)] {
            assert!(halves(rows, test, 1).is_err(), "{test}");
        }
    }
}
