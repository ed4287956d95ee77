//! A fingerprint's table row by row, where each row came from, and what differs between two tables.
//!
//! Only the [`Table`] is hashed. Origins are kept beside it for people: a file that moved, or an input that
//! another stage made with the same bytes, is no difference.

use std::{collections::BTreeMap, fmt};

use gradus_cache::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::Table;

/// A value that is longer than this is shown around what differs.
const LONGEST: usize = 40;
/// How much of two equal beginnings is shown before the first difference.
const CONTEXT: usize = 8;

/// Where an input came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    Stage {
        stage: String,
        output: String,
        /// What the stage was then.
        fingerprint: Fingerprint,
    },
    /// A path of the user's, relative to the project where it lies inside.
    File { file: String },
}

/// Where the rows of a table came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins {
    /// One for each artifact of a port, in order.
    pub inputs: BTreeMap<String, Vec<Origin>>,
    /// Pointer into the parameters → the file's path.
    pub files: BTreeMap<String, String>,
    /// Paths of what the program is made of, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program: Vec<String>,
    /// Where each tool was found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
}

/// What determined a stage's outputs, and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub table: Table,
    #[serde(default)]
    pub origins: Origins,
}

/// What a row is about; in this order rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    Kind,
    Revision,
    Program,
    Param,
    Seed,
    File,
    Input,
    Device,
    Schema,
}

/// One thing that determines a stage's outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub group: Group,
    /// Of a parameter or a port, with dots; `port[label]` where several come in. Else the group's own.
    pub name: String,
    /// For files and inputs the digest.
    pub value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A row as it was and as it is; at least one of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    pub before: Option<Row>,
    pub now: Option<Row>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { stage, output, .. } => write!(f, "{stage}.{output}"),
            Self::File { file } => f.write_str(file),
        }
    }
}

impl Facts {
    /// All rows, in the order of [`Group`].
    pub fn rows(&self) -> Vec<Row> {
        let table = &self.table.0;
        let mut rows = Vec::new();
        let mut plain = |group, name: &str| {
            let value = table[name].clone();
            rows.push(Row { group, name: name.to_owned(), value, origin: None });
        };
        plain(Group::Kind, "kind");
        plain(Group::Revision, "revision");
        if !table["seed"].is_null() {
            plain(Group::Seed, "seed");
        }
        plain(Group::Device, "device");
        plain(Group::Schema, "schema");
        self.params(&table["params"], "", &mut rows);
        for (pointer, digest) in table["files"].as_object().into_iter().flatten() {
            let name = pointer.trim_start_matches('/').replace('/', ".");
            let origin = self.origins.files.get(pointer).cloned();
            rows.push(Row { group: Group::File, name, value: digest.clone(), origin });
        }
        for (i, digest) in table["program"].as_array().into_iter().flatten().enumerate() {
            let origin = self.origins.program.get(i).cloned();
            let name = origin.clone().unwrap_or_else(|| i.to_string());
            rows.push(Row { group: Group::Program, name, value: digest.clone(), origin });
        }
        for (name, digest) in table["tools"].as_object().into_iter().flatten() {
            let (name, origin) = (name.clone(), self.origins.tools.get(name).cloned());
            rows.push(Row { group: Group::Program, name, value: digest.clone(), origin });
        }
        for (port, items) in table["inputs"].as_object().into_iter().flatten() {
            self.inputs(port, items, &mut rows);
        }
        rows.sort_by_key(|row| row.group);
        rows
    }

    /// One row for each value that is not a map. Those that name files have rows of their own.
    fn params(&self, value: &Value, pointer: &str, rows: &mut Vec<Row>) {
        match value {
            Value::Object(map) if !map.is_empty() || pointer.is_empty() => {
                for (key, value) in map {
                    self.params(value, &format!("{pointer}/{key}"), rows);
                }
            }
            _ if self.table.0["files"].get(pointer).is_some() => {}
            _ => {
                let name = pointer.trim_start_matches('/').replace('/', ".");
                rows.push(Row { group: Group::Param, name, value: value.clone(), origin: None });
            }
        }
    }

    fn inputs(&self, port: &str, items: &Value, rows: &mut Vec<Row>) {
        let origins = self.origins.inputs.get(port).map_or(&[][..], Vec::as_slice);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (i, item) in items.as_array().into_iter().flatten().enumerate() {
            let (name, value) = match (&item[0], &item[1]) {
                (Value::String(label), digest) => (format!("{port}[{label}]"), digest),
                _ => (port.to_owned(), item),
            };
            // One stage may bring two of its outputs into one port.
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { name } else { format!("{name}#{count}") };
            let origin = origins.get(i).map(ToString::to_string);
            rows.push(Row { group: Group::Input, name, value: value.clone(), origin });
        }
    }

    /// What differs from `before`, in words: `beta 0.1 → 0.5`, `file rows.jsonl 3f2a… → 81bb…`.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let pairs = side_by_side(&before.rows(), &self.rows());
        let mut words: Vec<_> =
            pairs.iter().filter(|it| it.differs()).map(ToString::to_string).collect();
        if words.is_empty() && self.table != before.table {
            words.push("the order of its inputs".to_owned());
        }
        words
    }
}

/// Rows of the same name beside each other.
pub fn side_by_side(before: &[Row], now: &[Row]) -> Vec<Pair> {
    let same = |a: &Row, b: &Row| a.group == b.group && a.name == b.name;
    let is_in = |row: &Row, rows: &[Row]| rows.iter().any(|it| same(it, row));
    // A parameter that names a file now, or did before, was or is nothing otherwise.
    let stands_for = |row: &Row, others: &[Row]| {
        row.group == Group::Param
            && row.value.is_null()
            && others.iter().any(|it| it.group == Group::File && it.name == row.name)
    };
    let mut pairs: Vec<Pair> = now
        .iter()
        .filter(|row| !stands_for(row, before))
        .map(|row| Pair {
            before: before.iter().find(|it| same(it, row)).cloned(),
            now: Some(row.clone()),
        })
        .collect();
    let gone = before.iter().filter(|row| !is_in(row, now) && !stands_for(row, now));
    pairs.extend(gone.map(|row| Pair { before: Some(row.clone()), now: None }));
    pairs.sort_by_key(|pair| pair.either().map(|row| row.group));
    pairs
}

impl Pair {
    /// Whether the outputs could differ by this row.
    pub fn differs(&self) -> bool {
        self.before.as_ref().map(|it| &it.value) != self.now.as_ref().map(|it| &it.value)
    }

    /// The row as it is, else as it was.
    pub fn either(&self) -> Option<&Row> {
        self.now.as_ref().or(self.before.as_ref())
    }

    /// Both sides as a person reads them, short.
    pub fn sides(&self) -> (String, String) {
        let text =
            |row: &Option<Row>| row.as_ref().map_or_else(|| "absent".to_owned(), Row::in_words);
        let (before, now) = (text(&self.before), text(&self.now));
        if self.differs() { contrast(&before, &now) } else { (cut(&before, 0), cut(&now, 0)) }
    }
}

impl Row {
    fn in_words(&self) -> String {
        match (&self.value, self.group) {
            (Value::String(digest), Group::File | Group::Input | Group::Program) => {
                // Behind the digest of a file that a program gets stands that it may be run.
                let (digest, more) = digest.split_once(' ').unwrap_or((digest, ""));
                format!("{} {more}", short(digest)).trim_end().to_owned()
            }
            (Value::String(text), Group::Kind | Group::Device) => text.clone(),
            (value, _) => value.to_string(),
        }
    }
}

/// The beginning of a digest, enough to tell it apart.
pub fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(row) = self.either() else { return Ok(()) };
        let what = match row.group {
            Group::Input => format!("input {}", row.name),
            Group::File => "file".to_owned(),
            Group::Program => "program".to_owned(),
            _ => row.name.clone(),
        };
        let (before, now) = self.sides();
        let origin = |row: &Option<Row>| row.as_ref().and_then(|it| it.origin.clone());
        let named =
            |origin: &Option<String>| origin.clone().map_or_else(String::new, |it| it + " ");
        match (origin(&self.before), origin(&self.now)) {
            _ if !matches!(row.group, Group::Input | Group::File | Group::Program) => {
                write!(f, "{what} {before} → {now}")
            }
            (_, to) if self.before.is_none() => write!(f, "{what} {}{now} added", named(&to)),
            (from, _) if self.now.is_none() => write!(f, "{what} {}{before} removed", named(&from)),
            (from, to) if from.is_none() || from == to => {
                let to = to.or_else(|| Some(row.name.clone()).filter(|_| row.group == Group::File));
                let from = if row.group == Group::Input { "from " } else { "" };
                let from = if to.is_some() { from } else { "" };
                write!(f, "{what} {from}{}{before} → {now}", named(&to))
            }
            (from, to) => write!(f, "{what} {}{before} → {}{now}", named(&from), named(&to)),
        }
    }
}

/// Two texts that differ, cut so that one sees where.
fn contrast(before: &str, now: &str) -> (String, String) {
    if before.chars().count().max(now.chars().count()) <= LONGEST {
        return (before.to_owned(), now.to_owned());
    }
    let equal = before.chars().zip(now.chars()).take_while(|(a, b)| a == b).count();
    let from = equal.saturating_sub(CONTEXT);
    (cut(before, from), cut(now, from))
}

/// At most [`LONGEST`] characters, from the character `from` on.
fn cut(text: &str, from: usize) -> String {
    let length = text.chars().count();
    let from = from.min(length.saturating_sub(LONGEST));
    let head = if from > 0 { "…" } else { "" };
    let tail = if length - from > LONGEST { "…" } else { "" };
    let middle: String = text.chars().skip(from).take(LONGEST).collect();
    format!("{head}{middle}{tail}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ONE: &str = "1111111111111111";
    const TWO: &str = "2222222222222222";

    fn facts(params: &Value, files: &Value, inputs: &Value) -> Facts {
        let device = "cpu";
        let table = json!({
            "kind": "make", "revision": 1, "seed": 0, "device": device, "schema": 1,
            "params": params, "files": files, "inputs": inputs,
        });
        let stage = |stage: &str| Origin::Stage {
            stage: stage.to_owned(),
            output: "text".to_owned(),
            fingerprint: Fingerprint::of(b""),
        };
        let origins = Origins {
            inputs: [("in".to_owned(), vec![stage("a")]), ("all".to_owned(), vec![stage("a")])]
                .into(),
            files: [("/file".to_owned(), "rows.jsonl".to_owned())].into(),
            program: Vec::new(),
            ..Origins::default()
        };
        Facts { table: Table(table), origins }
    }

    fn params(before: &Value, now: &Value) -> Vec<String> {
        let of = |params| facts(params, &json!({}), &json!({}));
        of(now).changes_since(&of(before))
    }

    fn inputs(before: &Value, now: &Value) -> Vec<String> {
        let of = |inputs| facts(&json!({}), &json!({}), inputs);
        of(now).changes_since(&of(before))
    }

    #[test]
    fn parameters_are_named_with_what_they_were_and_are() {
        assert_eq!(params(&json!({ "beta": 0.1 }), &json!({ "beta": 0.5 })), ["beta 0.1 → 0.5"]);
        let deep = |b: &str| json!({ "deep": { "a": 1, "b": b } });
        assert_eq!(params(&deep("x"), &deep("y")), [r#"deep.b "x" → "y""#]);
        assert_eq!(params(&json!({ "a": 1 }), &json!({})), ["a 1 → absent"]);
        assert_eq!(params(&json!({}), &json!({ "a": null })), ["a absent → null"]);
    }

    #[test]
    fn long_values_are_cut_to_where_they_differ() {
        let script =
            |word: &str| json!({ "shell": format!("{}{word} > out", "set -e; ".repeat(9)) });
        assert_eq!(
            params(&script("cat"), &script("tac")),
            [
                r#"shell …t -e; set -e; set -e; set -e; cat > out" → …t -e; set -e; set -e; set -e; tac > out""#
            ]
        );
    }

    #[test]
    fn files_are_named_by_their_path() {
        let of = |files: Value| {
            let params = match files.as_object().map(serde_json::Map::is_empty) {
                Some(true) => json!({ "file": null }),
                _ => json!({ "file": "(file)" }),
            };
            facts(&params, &files, &json!({}))
        };
        let (one, two) = (of(json!({ "/file": ONE })), of(json!({ "/file": TWO })));
        assert_eq!(two.changes_since(&one), ["file rows.jsonl 11111111 → 22222222"]);
        let mut moved = two.clone();
        moved.origins.files.insert("/file".to_owned(), "other.jsonl".to_owned());
        assert_eq!(moved.changes_since(&one), ["file rows.jsonl 11111111 → other.jsonl 22222222"]);
        assert!(moved.changes_since(&two).is_empty(), "a path alone is no difference");
        assert_eq!(one.changes_since(&of(json!({}))), ["file rows.jsonl 11111111 added"]);
        assert_eq!(of(json!({})).changes_since(&one), ["file rows.jsonl 11111111 removed"]);
    }

    #[test]
    fn inputs_are_named_with_the_stage_they_came_from() {
        let of = |digest: &str| json!({ "in": [digest] });
        assert_eq!(inputs(&of(ONE), &of(TWO)), ["input in from a.text 11111111 → 22222222"]);
        assert_eq!(inputs(&of(ONE), &json!({})), ["input in a.text 11111111 removed"]);
        assert_eq!(inputs(&json!({}), &of(ONE)), ["input in a.text 11111111 added"]);
    }

    #[test]
    fn of_a_fan_in_each_stage_is_told() {
        let (one, two) = (json!(["a", ONE]), json!(["b", TWO]));
        let of = |items: &[&Value]| json!({ "all": items });
        assert_eq!(inputs(&of(&[&one]), &of(&[&one, &two])), ["input all[b] 22222222 added"]);
        assert_eq!(inputs(&of(&[&one, &two]), &of(&[&two, &one])), ["the order of its inputs"]);
    }

    #[test]
    fn what_has_no_origin_is_told_without() {
        let of = |digest: &str| Facts {
            origins: Origins::default(),
            ..facts(&json!({}), &json!({ "/file": digest }), &json!({ "in": [digest] }))
        };
        assert_eq!(
            of(TWO).changes_since(&of(ONE)),
            ["file file 11111111 → 22222222", "input in 11111111 → 22222222"]
        );
    }
}
