//! Rewards that a program of a person's own gives.

use std::collections::BTreeMap;

use gradus_protocol::Page;
use serde_json::{Value, json};

use crate::{
    artifact::json::Object,
    error::StageError,
    program::{Program, number},
    rollout::trajectories::Trajectory,
};

/// What it says of every trajectory; equal ones are asked of once, and those whose answers stand on `page` not at all.
pub(super) fn judged(
    all: &[Trajectory],
    program: &mut Program,
    page: &Page,
    heard: &mut dyn FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let mut found: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
    let mut open: BTreeMap<Vec<u8>, Object> = BTreeMap::new();
    let keys: Vec<Vec<u8>> =
        all.iter().map(|it| Value::Object(request(it)).to_string().into()).collect();
    for (it, key) in all.iter().zip(&keys) {
        match page.recall(key).and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(known) => drop(found.insert(key.clone(), known)),
            None => drop(open.insert(key.clone(), request(it))),
        }
    }
    let (asked, requests): (Vec<Vec<u8>>, Vec<Object>) = open.into_iter().unzip();
    let count = keys.len();
    let before = count - asked.len();
    let done = std::cell::Cell::new(before);
    let mut answered = |place: usize, answer: Object| {
        let reward = number("judge", &answer, "reward")?;
        if let Err(error) = page.keep(&asked[place], reward.to_string().as_bytes()) {
            // The work itself goes on.
            tracing::warn!(%error, "the ledger does not take what was judged");
        }
        found.insert(asked[place].clone(), reward);
        done.set(done.get() + 1);
        Ok(())
    };
    program.ask(requests, &mut answered, &mut || heard(done.get(), count))?;
    heard(count, count)?;
    Ok(keys.iter().map(|key| found[key]).collect())
}

/// What is asked of a trajectory.
fn request(it: &Trajectory) -> Object {
    let mut request = Object::new();
    let mut put = |name: &str, value: Value| request.insert(name.to_owned(), value);
    put("prompt", json!(it.prompt));
    put("completion", json!(it.completion));
    put("ended", json!(it.tokens.ended));
    put("row", json!(it.extra));
    if !it.turns.is_empty() {
        put("turns", json!(it.turns));
    }
    request
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use gradus_protocol::Source;

    use super::*;
    use crate::{program::Running, rollout::trajectories::tests::trajectory};

    /// A reply is worth its length; it leaves a note for every request.
    const LENGTHS: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    it = json.loads(line)
    with open(it["row"]["log"], "a") as log: log.write("asked\n")
    print(json.dumps({"id": it["id"], "reward": len(it["completion"])}), flush=True)
"#;

    #[test]
    fn what_is_known_is_not_asked_and_equal_rows_are_asked_of_once() {
        let place = tempfile::tempdir().unwrap();
        let (path, log) = (place.path().join("lengths"), place.path().join("log"));
        fs::write(&path, LENGTHS).unwrap();
        let page = Page::new(Some(&place.path().join("ledger")), false, "lengths");
        let mut program =
            Program::place("judge", &Source::File(path), &Running::default()).unwrap();
        let row = |completion: &str| {
            let mut it = trajectory(0, 0, 0.0);
            it.completion = completion.to_owned();
            it.extra.insert("log".to_owned(), json!(log));
            it
        };
        let seen = Cell::new((0, 0));
        let mut of = |texts: &[&str]| {
            let all: Vec<Trajectory> = texts.iter().map(|it| row(it)).collect();
            let mut heard = |done, of| {
                seen.set((done, of));
                Ok(())
            };
            judged(&all, &mut program, &page, &mut heard).unwrap()
        };
        assert_eq!(of(&["a", "abc", "a"]), [1.0, 3.0, 1.0]);
        assert_eq!(of(&["abc", "ab"]), [3.0, 2.0]);
        assert_eq!(seen.get(), (2, 2));
        assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 3);
    }
}
