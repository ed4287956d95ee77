//! What determines a stage's outputs, and so enters its fingerprint.
//!
//! | row | why |
//! | --- | --- |
//! | `kind`, `revision` | the code; a kind raises its revision when the same inputs would give other outputs |
//! | `params` | all of them, defaults filled in, so that writing a default out changes nothing; but none that has its `neutral` value, which is as if there were no such parameter |
//! | `seed` | every random choice derives from it, for kinds that make any |
//! | `files` | the content of files that parameters name; their paths are not in it |
//! | `inputs` | per port the digests, in order; for a fan-in also the stages' names, which the outputs show |
//! | `program` | the content of the files that a worker of the project's own says it depends on, if it has any |
//! | `device` | the device class with its threads, for kinds whose bytes depend on it |
//! | `schema` | raised when this table changes |
//!
//! What a stage draws derives from `seed` and `kind` alone: stages that differ in anything else share their noise, so
//! that they can be compared in pairs. A longer training can go on from a shorter one where its kind says so.
//!
//! Left out: names of stages and pipelines, paths, comments, the order of keys, slots, log settings, the
//! version of gradus, and the time.

use std::collections::BTreeMap;

use gradus_cache::{Artifact, Fingerprint};
use gradus_protocol::catalog::{Length, Param, Shape};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stage::Stage;

const SCHEMA: u32 = 2;

/// What is known about a stage once its inputs are there.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Port → label and artifact, in order.
    pub inputs: BTreeMap<String, Vec<(String, Artifact)>>,
    /// Pointer into the parameters → the file's digest.
    pub files: BTreeMap<String, Artifact>,
    /// What the program that brings the kind is made of, in its order.
    pub program: Vec<Artifact>,
    /// The declared tools of an `exec` stage; `None` for one that is not there.
    pub tools: BTreeMap<String, Option<Artifact>>,
    pub device: String,
}

/// The rows that were hashed, kept with the action so that a change can be explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table(pub Value);

impl Table {
    pub fn of(stage: &Stage, known: &Known) -> Self {
        let mut params = sorted(&stage.params);
        leave_out_neutral(&mut params, &stage.kind.params);
        let mut files = BTreeMap::new();
        for (pointer, artifact) in &known.files {
            if let Some(value) = params.pointer_mut(pointer) {
                *value = json!("(file)");
            }
            files.insert(pointer, artifact.digest.to_string());
        }
        let named = |port: &str| stage.inputs.iter().any(|wire| wire.port == port && wire.fan_in);
        let inputs: BTreeMap<_, Vec<Value>> = known
            .inputs
            .iter()
            .map(|(port, items)| {
                let rows = items.iter().map(|(label, artifact)| {
                    let mut digest = artifact.digest.to_string();
                    // Whether a file can be run is nothing to who reads it as data.
                    if artifact.executable && stage.exec.is_some() {
                        digest += " executable";
                    }
                    if named(port) { json!([label, digest]) } else { json!(digest) }
                });
                (port, rows.collect())
            })
            .collect();
        let device = if stage.kind.uses_device { known.device.as_str() } else { "any" };
        let program = known.program.iter().map(|it| it.digest.to_string());
        let program = Some(program.collect()).filter(|_| !known.program.is_empty());
        let tool = |it: &Option<Artifact>| it.as_ref().map(|it| it.digest.to_string());
        let tools: BTreeMap<_, _> = known.tools.iter().map(|(name, it)| (name, tool(it))).collect();
        let tools = Some(json!(tools)).filter(|_| !known.tools.is_empty());
        // In the order of their names, as all maps inside are.
        let rows = [
            ("device", Some(json!(device))),
            ("files", Some(json!(files))),
            ("inputs", Some(json!(inputs))),
            ("kind", Some(json!(stage.kind.kind))),
            ("params", Some(params)),
            ("program", program),
            ("revision", Some(json!(stage.kind.revision_of(&stage.params)))),
            ("schema", Some(json!(SCHEMA))),
            ("seed", stage.kind.uses_seed.then(|| json!(stage.seed))),
            ("tools", tools),
        ];
        let rows = rows.into_iter().filter_map(|(name, row)| Some((name.to_owned(), row?)));
        Self(Value::Object(rows.collect()))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.to_string().as_bytes())
    }

    /// What longer and shorter stages have in common that differ in nothing else.
    pub fn line(&self, length: &Length) -> Fingerprint {
        self.without(&length.params)
    }

    /// What stages have in common that differ in these parameters and inputs alone.
    pub fn without(&self, names: &[String]) -> Fingerprint {
        let mut table = self.0.clone();
        for part in ["params", "inputs"] {
            if let Some(part) = table[part].as_object_mut() {
                part.retain(|name, _| !names.contains(name));
            }
        }
        Self(table).fingerprint()
    }
}

/// What every random choice of a stage derives from: its `seed` and its kind.
pub fn seed_of(stage: &Stage) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("gradus 2026 seed of a stage");
    hasher.update(&stage.seed.to_le_bytes()).update(stage.kind.kind.as_bytes());
    let mut seed = [0; 8];
    seed.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(seed)
}

/// Takes out what has its neutral value, fields of records as well.
fn leave_out_neutral(values: &mut Value, params: &[Param]) {
    let Value::Object(values) = values else { return };
    let known = |name: &str| params.iter().find(|param| param.name == name);
    // What stays keeps its order, which is hashed.
    values.retain(|name, value| known(name).is_none_or(|it| it.neutral.as_ref() != Some(value)));
    for (name, value) in values.iter_mut() {
        if let Some(Shape::Record { fields }) = known(name).map(|param| inner(&param.shape)) {
            leave_out_neutral(value, fields);
        }
    }
}

fn inner(shape: &Shape) -> &Shape {
    match shape {
        Shape::Optional { of } => inner(of),
        shape => shape,
    }
}

/// The same value with all maps in the order of their keys.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gradus_cache::Digest;
    use gradus_protocol::catalog::Catalog;
    use proptest::{
        prelude::{ProptestConfig as Config, any, prop_assert_eq, proptest},
        test_runner::RngSeed,
    };

    use super::*;
    use crate::{
        plan::plan,
        spec::{Mistakes, Overrides, load},
    };

    const CATALOG: &str = r#"{ "kinds": [{
        "kind": "make", "revision": 1, "doc": "", "uses_device": true,
        "params": [
            { "name": "size", "doc": "", "shape": { "type": "number" }, "default": 1.0 },
            { "name": "file", "doc": "", "shape": { "type": "optional", "of": { "type": "path" } }, "default": null },
            { "name": "deep", "doc": "", "shape": { "type": "record", "fields": [
                { "name": "a", "doc": "", "shape": { "type": "integer" }, "default": 1 },
                { "name": "b", "doc": "", "shape": { "type": "text" }, "default": "" },
                { "name": "new", "doc": "", "shape": { "type": "boolean" }, "default": false, "neutral": false }
            ] }, "default": { "a": 1, "b": "", "new": false } },
            { "name": "later", "doc": "", "shape": { "type": "optional", "of": { "type": "text" } }, "default": null, "neutral": null }
        ],
        "inputs": [
            { "name": "in", "doc": "", "type": { "is": ["any"] }, "optional": true },
            { "name": "all", "doc": "", "type": { "is": ["any"] }, "optional": true, "many": true }
        ],
        "outputs": [{ "name": "out", "doc": "", "type": { "is": ["any"] } }]
    }, {
        "kind": "still", "revision": 1, "doc": "", "uses_device": true, "uses_seed": false,
        "params": [], "inputs": [], "outputs": []
    }] }"#;

    /// The last stage of a pipeline.
    fn stage(pipeline: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        fs::write(&path, pipeline).unwrap();
        fs::write(folder.path().join("one.txt"), "").unwrap();
        fs::write(folder.path().join("two.txt"), "").unwrap();
        let mut mistakes = Mistakes::default();
        let pipeline = load(&path, &Overrides::default(), &mut mistakes).unwrap();
        let catalog: Catalog = serde_json::from_str(CATALOG).unwrap();
        plan(&pipeline, &catalog, mistakes).unwrap().stages.pop().unwrap()
    }

    fn artifact(content: &str) -> Artifact {
        let bytes = content.len() as u64;
        Artifact::blob(Digest::of(content.as_bytes()), bytes)
    }

    fn table(with: &str) -> Table {
        let stage = stage(&format!("stages: {{ a: {{ kind: make, with: {{ {with} }} }} }}"));
        Table::of(&stage, &Known::default())
    }

    fn fingerprint(with: &str) -> Fingerprint {
        table(with).fingerprint()
    }

    #[test]
    fn a_default_that_is_written_out_changes_nothing() {
        let plain = fingerprint("");
        assert_eq!(fingerprint("size: 1.0, file: null"), plain);
        assert_eq!(fingerprint("size: 1"), plain);
        assert_eq!(fingerprint("deep: {}"), plain);
        assert_eq!(fingerprint("deep: { b: '', a: 1 }, seed: 0"), plain);
    }

    #[test]
    fn a_parameter_with_its_neutral_value_is_as_if_there_were_none() {
        let names = |with| {
            let names =
                |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            let params = &table(with).0["params"];
            (names(params), names(&params["deep"]))
        };
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let usual = ["deep", "file", "size"];
        assert_eq!(names(""), (owned(&usual), owned(&["a", "b"])));
        assert_eq!(names("deep: { new: true }"), (owned(&usual), owned(&["a", "b", "new"])));
        assert_eq!(names("later: x").0, ["deep", "file", "later", "size"]);
    }

    /// What of every kind's parameters is in its key. A line that changes makes all results of that kind be computed
    /// anew: give a new parameter a `neutral` value, and see to it that it means what was meant before.
    #[test]
    fn no_key_changes_by_accident() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../stages/catalog.json");
        let catalog: Catalog = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let line = |kind: &gradus_protocol::catalog::Kind| {
            let value = |param: &Param| {
                let value = param.default.clone().unwrap_or_else(|| json!("(to be given)"));
                (param.name.clone(), value)
            };
            let mut params = sorted(&Value::Object(kind.params.iter().map(value).collect()));
            leave_out_neutral(&mut params, &kind.params);
            format!("{} {} {params}\n", kind.kind, kind.revision)
        };
        insta::assert_snapshot!(catalog.kinds.iter().map(line).collect::<String>());
    }

    /// The whole keys of a pipeline with every trained family, on inputs that are made up.
    #[test]
    fn no_fingerprint_of_a_trained_family_changes_by_accident() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let catalog = fs::read(format!("{root}/stages/catalog.json")).unwrap();
        let catalog: Catalog = serde_json::from_slice(&catalog).unwrap();
        let mut mistakes = Mistakes::default();
        let path = format!("{root}/pipelines/quickstart.yaml");
        let pipeline = load(path.as_ref(), &Overrides::default(), &mut mistakes).unwrap();
        let plan = plan(&pipeline, &catalog, mistakes).unwrap();
        let line = |stage: &Stage| {
            let mut known = Known { device: "cpu".to_owned(), ..Known::default() };
            for wire in &stage.inputs {
                let input = (wire.port.clone(), artifact(&wire.port));
                known.inputs.entry(wire.port.clone()).or_default().push(input);
            }
            format!("{} {}\n", stage.kind.kind, Table::of(stage, &known).fingerprint())
        };
        insta::assert_snapshot!(plan.stages.iter().map(line).collect::<String>());
    }

    #[test]
    fn every_parameter_and_the_seed_change_it() {
        let all = ["", "size: 2", "seed: 1", "deep: { a: 2 }", "deep: { b: x }"].map(fingerprint);
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
    }

    #[test]
    fn names_comments_and_the_order_of_keys_change_nothing() {
        let of = |pipeline: &str| Table::of(&stage(pipeline), &Known::default()).fingerprint();
        let one =
            of("name: x\nstages:\n  a: { kind: make, with: { size: 2, deep: { a: 2, b: c } } }");
        let two = of(
            "stages:\n  other: # said anew\n    with: { deep: { b: c, a: 2 }, size: 2.0 }\n    kind: make\nname: y",
        );
        assert_eq!(one, two);
    }

    #[test]
    fn a_files_content_changes_it_and_its_path_does_not() {
        let of = |name: &str, content: &str| {
            let stage =
                stage(&format!("stages: {{ a: {{ kind: make, with: {{ file: {name} }} }} }}"));
            let files = [("/file".to_owned(), artifact(content))].into();
            Table::of(&stage, &Known { files, ..Known::default() }).fingerprint()
        };
        assert_eq!(of("one.txt", "x"), of("two.txt", "x"));
        assert_ne!(of("one.txt", "x"), of("one.txt", "y"));
    }

    #[test]
    fn the_program_counts_where_there_is_one() {
        let stage = stage("stages: { a: { kind: make } }");
        let of = |program: &[&str]| {
            let program = program.iter().map(|content| artifact(content)).collect();
            Table::of(&stage, &Known { program, ..Known::default() }).fingerprint()
        };
        assert_eq!(of(&[]), fingerprint(""));
        assert_ne!(of(&["x"]), of(&[]));
        assert_ne!(of(&["x"]), of(&["y"]));
    }

    fn with_inputs(port: &str, inputs: &[(&str, &str)]) -> Fingerprint {
        let stage = stage(&format!(
            "stages: {{ b: {{ kind: make }}, a: {{ kind: make, inputs: {{ {port}: b }} }} }}"
        ));
        let items = inputs.iter().map(|(label, content)| ((*label).to_owned(), artifact(content)));
        let inputs = [(port.to_owned(), items.collect())].into();
        Table::of(&stage, &Known { inputs, ..Known::default() }).fingerprint()
    }

    #[test]
    fn the_stage_behind_an_input_is_named_for_a_fan_in_alone() {
        assert_eq!(with_inputs("in", &[("b", "x")]), with_inputs("in", &[("c", "x")]));
        assert_ne!(with_inputs("in", &[("b", "x")]), with_inputs("in", &[("b", "y")]));
        assert_ne!(with_inputs("all", &[("b", "x")]), with_inputs("all", &[("c", "x")]));
        let (one, two) = (("b", "x"), ("c", "y"));
        assert_ne!(with_inputs("all", &[one, two]), with_inputs("all", &[two, one]));
    }

    #[test]
    fn the_device_counts_where_bytes_depend_on_it() {
        let of = |pipeline: &str, device: &str| {
            let known = Known { device: device.to_owned(), ..Known::default() };
            Table::of(&stage(pipeline), &known).fingerprint()
        };
        let make = "stages: { a: { kind: make } }";
        assert_ne!(of(make, "cpu"), of(make, "cuda"));
        let exec = "stages: { a: { kind: exec, with: { command: [ls] } } }";
        assert_eq!(of(exec, "cpu"), of(exec, "cuda"));
    }

    #[test]
    fn a_fingerprint_stays_the_same_over_versions() {
        // Should this change, then raise `SCHEMA`: what is in caches would not be found any more.
        let known = "857c4b4d922a3df34857bcd898e55642ad60a5aeed5c7d66d5e066a5fb1c4008";
        assert_eq!(fingerprint("").to_string(), known);
    }

    /// The parameters of `make` as YAML, in this order.
    fn with(size: i32, a: i32, b: &str, order: bool) -> String {
        let deep = [format!("a: {a}"), format!("b: {}", json!(b))];
        let deep = if order { deep.join(", ") } else { format!("{}, {}", deep[1], deep[0]) };
        let all = [format!("size: {size}"), format!("deep: {{ {deep} }}")];
        if order { all.join(", ") } else { format!("{}, {}", all[1], all[0]) }
    }

    /// Texts with much of what could be taken for something else.
    const TEXT: &str = "([a-c]|[${}]|[\"'\\\\:#,]|\\PC){0,8}";

    proptest! {
        #![proptest_config(Config {
            cases: 64,
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..Config::default()
        })]

        #[test]
        fn the_order_of_keys_never_counts_and_every_value_does(
            size in any::<i32>(), a in any::<i32>(), b in TEXT,
            other_size in any::<i32>(), other_a in any::<i32>(), other_b in TEXT,
        ) {
            let escaped = |text: &str| text.replace("${", "$${");
            let of = |size, a, b: &str, order| fingerprint(&with(size, a, &escaped(b), order));
            let one = of(size, a, &b, true);
            prop_assert_eq!(one, of(size, a, &b, false));
            prop_assert_eq!(one == of(other_size, a, &b, true), size == other_size);
            prop_assert_eq!(one == of(size, other_a, &b, true), a == other_a);
            prop_assert_eq!(one == of(size, a, &other_b, true), b == other_b);
        }

        #[test]
        fn a_value_is_the_same_whether_it_is_written_out_or_comes_from_a_parameter(
            size in any::<i32>(), a in any::<i32>(), b in TEXT,
        ) {
            let text = json!(b.replace("${", "$${"));
            let through = stage(&format!(
                "params: {{ size: {size}, a: {a}, b: {text} }}\n\
                 stages: {{ a: {{ kind: make, with: {{ size: '${{params.size}}', \
                 deep: {{ a: '${{params.a}}', b: '${{params.b}}' }} }} }} }}"
            ));
            prop_assert_eq!(&through.params["deep"]["b"], &json!(b));
            let through = Table::of(&through, &Known::default()).fingerprint();
            let escaped = b.replace("${", "$${");
            prop_assert_eq!(through, fingerprint(&with(size, a, &escaped, true)));
        }
    }

    #[test]
    fn stages_that_differ_in_their_length_alone_are_of_one_line() {
        let length = Length { params: vec!["size".to_owned()], ..Length::default() };
        let line = |with: &str| table(with).line(&length);
        assert_eq!(line("size: 2"), line("size: 3"));
        assert_ne!(line("size: 2"), line("size: 2, seed: 1"));
        assert_ne!(line("size: 2"), line("size: 2, deep: { a: 2 }"));
        assert_ne!(line("size: 2"), fingerprint("size: 2"));
    }

    #[test]
    fn what_is_drawn_follows_from_the_seed_and_the_kind_alone() {
        let of = |kind: &str, with: &str| {
            seed_of(&stage(&format!("stages: {{ a: {{ kind: {kind}, with: {{ {with} }} }} }}")))
        };
        assert_eq!(of("make", ""), of("make", "size: 2, deep: { a: 2 }, seed: 0"));
        assert_ne!(of("make", ""), of("make", "seed: 1"));
        assert_ne!(of("make", ""), of("still", ""));
    }

    #[test]
    fn a_seed_said_where_a_file_is_included_is_that_of_its_stages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        // Its own seed is for when it is run by itself.
        fs::write(folder.path().join("part.yaml"), "seed: 9\nstages: { a: { kind: make } }")
            .unwrap();
        let text = "seed: 1\ninclude: { one: part.yaml, two: { path: part.yaml, seed: 2 } }";
        fs::write(&path, text).unwrap();
        let catalog: Catalog = serde_json::from_str(CATALOG).unwrap();
        let seeds = |seed| {
            let mut mistakes = Mistakes::default();
            let overrides = Overrides { seed, ..Overrides::default() };
            let pipeline = load(&path, &overrides, &mut mistakes).unwrap();
            let stages = plan(&pipeline, &catalog, mistakes).unwrap().stages.into_iter();
            stages.map(|stage| (stage.id, stage.seed)).collect::<BTreeMap<_, _>>()
        };
        let of = |one, two| [("one/a".to_owned(), one), ("two/a".to_owned(), two)].into();
        assert_eq!(seeds(None), of(1, 2));
        assert_eq!(seeds(Some(5)), of(5, 2));
    }

    #[test]
    fn the_pipelines_seed_is_that_of_every_stage_which_says_none() {
        let of = |text: &str| Table::of(&stage(text), &Known::default()).0["seed"].clone();
        assert_eq!(of("seed: 3\nstages: { a: { kind: make } }"), json!(3));
        assert_eq!(of("seed: 3\nstages: { a: { kind: make, with: { seed: 4 } } }"), json!(4));
        assert_eq!(
            of("params: { s: 5 }\nseed: '${params.s}'\nstages: { a: { kind: make } }"),
            json!(5)
        );
        // What a stage says of its own seed may go by the pipeline's.
        assert_eq!(
            of("seed: 3\nstages: { a: { kind: make, with: { seed: '${seed}' } } }"),
            json!(3)
        );
        // A kind that draws nothing is the same whatever the seed.
        assert_eq!(of("seed: 3\nstages: { a: { kind: still } }"), Value::Null);
        let deep = "seed: 3\nstages: { a: { kind: make, with: { deep: { b: 's${seed}' } } } }";
        assert_eq!(stage(deep).params["deep"]["b"], "s3");
    }
}
