//! What docs/protocol.md shows is what the messages are.
#![expect(clippy::unwrap_used, reason = "test code")]

use gradus_protocol::{
    Reply, Request, Source, VERSION,
    catalog::{Kind, Length},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The examples on the page that are marked as `sort`.
fn examples(sort: &str) -> Vec<Value> {
    let page = include_str!("../../../docs/protocol.md");
    let blocks = page.split("```json ").skip(1);
    let marked = blocks.filter_map(|block| block.split_once("```")?.0.split_once('\n'));
    let examples = marked.filter(|(name, _)| *name == sort);
    examples.map(|(_, text)| serde_json::from_str(text).unwrap()).collect()
}

/// Reads every example as a `T`; what is written out again has every key of the example.
fn read<T: DeserializeOwned + Serialize>(sort: &str) -> Vec<T> {
    let examples = examples(sort);
    assert!(!examples.is_empty(), "no example of a {sort}");
    let read = |example: Value| {
        let read: T = serde_json::from_value(example.clone()).unwrap();
        let again = serde_json::to_value(&read).unwrap();
        for (key, value) in example.as_object().unwrap() {
            assert!(again.get(key).is_some() || value.is_null(), "{sort}: `{key}` is not read");
        }
        read
    };
    examples.into_iter().map(read).collect()
}

#[test]
fn every_reply_is_shown_as_it_is() {
    let replies: Vec<Reply> = read("reply");
    let Reply::Hello { protocol, .. } = replies[0] else { panic!("the first is no hello") };
    assert_eq!(protocol, VERSION);
    let mut names: Vec<_> = examples("reply").iter().map(|it| it["reply"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
}

#[test]
fn every_request_source_kind_and_length_is_shown_as_it_is() {
    assert_eq!(read::<Request>("request").len(), 2);
    read::<Source>("source");
    read::<Kind>("kind");
    read::<Length>("length");
}
