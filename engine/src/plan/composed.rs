//! A stage is the same, however its pipeline is composed.

use std::{fs, path::Path};

use gradus_protocol::catalog::Catalog;
use proptest::{
    prelude::{ProptestConfig as Config, any, prop_assert_eq, proptest},
    test_runner::RngSeed,
};
use serde_json::json;

use super::{Known, Plan, Stage, Table, label, plan};
use crate::spec::{Mistakes, Overrides, load};

const CATALOG: &str = r#"{ "kinds": [{
    "kind": "make", "revision": 1, "doc": "", "uses_device": false,
    "params": [
        { "name": "size", "doc": "", "shape": { "type": "number" }, "default": 1.0 },
        { "name": "deep", "doc": "", "shape": { "type": "record", "fields": [
            { "name": "a", "doc": "", "shape": { "type": "integer" }, "default": 1 },
            { "name": "b", "doc": "", "shape": { "type": "text" }, "default": "" }
        ] }, "default": { "a": 1, "b": "" } }
    ],
    "inputs": [
        { "name": "in", "doc": "", "type": { "is": ["any"] }, "optional": true },
        { "name": "all", "doc": "", "type": { "is": ["any"] }, "optional": true, "many": true }
    ],
    "outputs": [{ "name": "out", "doc": "", "type": { "is": ["any"] } }]
}] }"#;

fn read(folder: &Path, files: &[(&str, &str)]) -> Plan {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let mut mistakes = Mistakes::default();
    let pipeline = load(&folder.join("p.yaml"), &Overrides::default(), &mut mistakes).unwrap();
    let catalog: Catalog = serde_json::from_str(CATALOG).unwrap();
    plan(&pipeline, &catalog, mistakes).unwrap()
}

/// What is hashed of the last stage, and what it calls its inputs.
fn last(files: &[(&str, &str)]) -> (Table, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let plan = read(folder.path(), files);
    let stage: &Stage = plan.stages.last().unwrap();
    let labels = stage.inputs.iter().map(|wire| label(wire, stage, &plan.stages)).collect();
    (Table::of(stage, &Known::default()), labels)
}

/// Keys that change no byte, in some order.
fn conduct(order: bool) -> String {
    let mut keys =
        ["retries: 1", "timeout: 5m", "cache: false", "when: true", "resources: { cpus: 4 }"];
    if order {
        keys.reverse();
    }
    keys.join(", ")
}

/// Texts with much of what could be taken for something else.
const TEXT: &str = "([a-c]|[${}]|[\"'\\\\:#,]|\\PC){0,8}";

proptest! {
    #![proptest_config(Config {
        cases: 48,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn templates_includes_and_the_order_of_keys_change_nothing(
        size in any::<i32>(), a in any::<i32>(), text in TEXT, order in any::<bool>(),
    ) {
        let b = json!(text.replace("${", "$${"));
        let conduct = conduct(order);
        let inputs = "in: x, all: ['x', 'y[*]']";
        let others = "x: { kind: make }\n  y: { kind: make, matrix: { n: [1, 2] } }";
        let plain = format!(
            "stages:\n  {others}\n  z: {{ kind: make, inputs: {{ {inputs} }}, with: {{ size: {size}, deep: {{ a: {a}, b: {b} }} }} }}"
        );
        let expected = last(&[("p.yaml", &plain)]);
        prop_assert_eq!(&expected.0.0["params"]["deep"]["b"], &json!(text));
        let conducted = plain.replacen("z: {", &format!("z: {{ {conduct}, "), 1);
        prop_assert_eq!(&last(&[("p.yaml", &conducted)]), &expected);
        let templates = format!(
            "templates:\n  t: {{ {conduct}, required: [a], args: {{ b: other }}, with: {{ size: 7, deep: {{ b: '${{args.b}}', a: '${{args.a}}' }} }}, kind: make }}"
        );
        let used = format!("args: {{ b: {b}, a: {a} }}, inputs: {{ {inputs} }}, with: {{ size: {size} }}");
        let own = format!("{templates}\nstages:\n  {others}\n  z: {{ template: t, {used} }}");
        prop_assert_eq!(&last(&[("p.yaml", &own)]), &expected);
        let elsewhere =
            format!("include: {{ i: t.yaml }}\nstages:\n  {others}\n  z: {{ template: i/t, {used} }}");
        prop_assert_eq!(&last(&[("p.yaml", &elsewhere), ("t.yaml", &templates)]), &expected);
        let whole = "include: { deep: { path: m.yaml } }";
        let middle = "include: { i: q.yaml }";
        prop_assert_eq!(
            &last(&[("p.yaml", whole), ("m.yaml", middle), ("q.yaml", &own)]),
            &expected
        );
        let given = format!(
            "params: {{ b: {b} }}\ninclude: {{ i: {{ path: q.yaml, params: {{ a: {a}, b: '${{params.b}}' }} }} }}"
        );
        let taking = plain
            .replacen(&format!("a: {a}"), "a: '${params.a}'", 1)
            .replacen(&format!("b: {b}"), "b: '${params.b}'", 1);
        let taking = format!("params: {{ a: 0, b: '' }}\n{taking}");
        prop_assert_eq!(&last(&[("p.yaml", &given), ("q.yaml", &taking)]), &expected);
        let multiplied = given
            .replacen("params: { a: ", "matrix: { k: [1], m: [2] }, params: { a: ", 1);
        prop_assert_eq!(&last(&[("p.yaml", &multiplied), ("q.yaml", &taking)]), &expected);
    }
}
