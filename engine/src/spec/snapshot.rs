//! The key `snapshot`: which outputs `gradus test` compares, and how exactly.

use super::{
    mistake::Problem,
    node::{Data, Node},
    place::At,
    reader::Reader,
};

/// What of a stage is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its final numbers.
    Metrics,
    /// An output's text, to the letter.
    Text,
    /// An output's text, numbers in its cells within the tolerance.
    Table,
    /// An output's bytes, by their digest alone.
    Digest,
}

/// One entry of `snapshot`.
#[derive(Debug, Clone)]
pub struct SnapshotSpec {
    pub what: What,
    /// `stage`, `stage.output`, `stage[variant].output`.
    pub of: String,
    pub at: At,
    /// Of metrics: these alone, if any are named.
    pub only: Vec<String>,
    /// How far a number may be off; see [`What`].
    pub tolerance: Option<f64>,
}

const KINDS: [(&str, What, &[&str]); 4] = [
    ("metrics", What::Metrics, &["metrics", "only", "tolerance"]),
    ("text", What::Text, &["text"]),
    ("table", What::Table, &["table", "tolerance"]),
    ("digest", What::Digest, &["digest"]),
];

impl Reader<'_> {
    /// The entries, `None` where the key is not there.
    pub(super) fn snapshots(&mut self, node: Option<&Node>) -> Option<Vec<SnapshotSpec>> {
        let node = node?;
        let Data::List(items) = &node.data else {
            self.wrong_type(node, "`snapshot`", "a list of what is compared");
            return None;
        };
        Some(items.iter().filter_map(|item| self.snapshot(item)).collect())
    }

    fn snapshot(&mut self, node: &Node) -> Option<SnapshotSpec> {
        let place = "an entry of `snapshot`";
        let mut kinds = KINDS.iter().filter(|kind| node.get(kind.0).is_some());
        let Some((key, what, known)) = kinds.next() else {
            // Whatever stands there, these are the keys that make an entry.
            let before = self.mistakes.list.len();
            self.keys(node, place, &["metrics", "text", "table", "digest", "only", "tolerance"]);
            if self.mistakes.list.len() == before {
                let place = place.to_owned();
                self.add(node.at, Problem::MissingKey { place, key: "metrics" });
            }
            return None;
        };
        self.keys(node, place, known);
        let named = node.get(key)?;
        let of = self.text(Some(named), &format!("`{key}`"))?;
        let only = self.list_of_text(node.get("only"), "`only`");
        let tolerance = node.get("tolerance").and_then(|node| self.tolerance(node));
        Some(SnapshotSpec { what: *what, of, at: named.at, only, tolerance })
    }

    fn tolerance(&mut self, node: &Node) -> Option<f64> {
        let number = match &node.data {
            Data::Number(number) => number.as_f64(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(node, "`tolerance`", "a number");
            return None;
        };
        if number < 0.0 {
            let (what, rule) = ("`tolerance`".to_owned(), "at least 0".to_owned());
            let found = format!("`{number}`");
            self.add(node.at, Problem::OutOfRange { what, rule, found, nearest: None });
            return None;
        }
        Some(number)
    }
}
