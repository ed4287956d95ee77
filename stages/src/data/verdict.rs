//! Pairs as somebody compared them: two replies, and a column that says which is the better one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::Cell;

/// Where the better of two replies is named.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    /// The columns with the two replies.
    pub(crate) replies: [String; 2],
    /// The column that says which of them is the better one.
    pub(crate) column: String,
    /// What it holds where the first is better, and where the second is: `[a, b]`, say.
    values: [String; 2],
    /// What it holds where neither is: such rows are left out and counted.
    #[serde(default)]
    ties: Vec<String>,
}

/// Which reply is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    First,
    Second,
    Neither,
}

impl Verdict {
    /// Refuses a verdict that could be read in two ways.
    pub(crate) fn check(&self) -> Result<(), String> {
        let columns = [&self.replies[0], &self.replies[1], &self.column];
        if let Some(twice) = twice(&columns) {
            return Err(format!("`verdict` names the column `{twice}` twice"));
        }
        let values: Vec<&String> = self.values.iter().chain(&self.ties).collect();
        match twice(&values) {
            Some(twice) => Err(format!("`verdict` has the value `{twice}` twice")),
            None => Ok(()),
        }
    }

    pub(crate) fn of(&self, cell: &Cell) -> Result<Better, String> {
        let found = match cell {
            Cell::Value(Value::String(text)) => text.clone(),
            Cell::Value(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            other => return Err(format!("`{}` is {}, no verdict", self.column, other.kind())),
        };
        if let Some(at) = self.values.iter().position(|it| *it == found) {
            return Ok(if at == 0 { Better::First } else { Better::Second });
        }
        if self.ties.contains(&found) {
            return Ok(Better::Neither);
        }
        let known: Vec<String> =
            self.values.iter().chain(&self.ties).map(|it| format!("`{it}`")).collect();
        Err(format!(
            "`{}` is `{found}`, and `verdict` knows {}: is it one of its `ties`?",
            self.column,
            known.join(", ")
        ))
    }
}

fn twice<'a>(all: &[&'a String]) -> Option<&'a String> {
    all.iter().enumerate().find(|(at, it)| all[..*at].contains(it)).map(|(_, it)| *it)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(ties: &[&str]) -> Verdict {
        let given = json!({ "replies": ["a", "b"], "column": "winner", "values": ["1", "2"], "ties": ties });
        serde_json::from_value(given).unwrap()
    }

    #[test]
    fn a_verdict_is_read_from_words_and_numbers() {
        let verdict = verdict(&["tie", "both bad"]);
        let of = |value: Value| verdict.of(&Cell::Value(value));
        assert_eq!(of(json!("1")), Ok(Better::First));
        assert_eq!(of(json!(2)), Ok(Better::Second));
        assert_eq!(of(json!("both bad")), Ok(Better::Neither));
        insta::assert_snapshot!(of(json!("draw")).unwrap_err(), @"`winner` is `draw`, and `verdict` knows `1`, `2`, `tie`, `both bad`: is it one of its `ties`?");
        insta::assert_snapshot!(of(json!(null)).unwrap_err(), @"`winner` is null, no verdict");
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        assert!(verdict(&["tie"]).check().is_ok());
        assert_eq!(verdict(&["2"]).check().unwrap_err(), "`verdict` has the value `2` twice");
        let same = Verdict { column: "a".to_owned(), ..verdict(&[]) };
        assert_eq!(same.check().unwrap_err(), "`verdict` names the column `a` twice");
    }
}
